"""The config of a gate: everything that is fixed, and hashed, before a candidate is measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from palate.artifacts import json_hash
from palate.config.base import Fields
from palate.config.explain import validated
from palate.config.reader import read_config_file
from palate.errors import ConfigError
from palate.stats import pass_probability, smallest_effect

LEAST_PROMPTS = 100
LEAST_PASS = 0.8
"""An equal model must pass a guard in this share of gates, or the guard says nothing about a candidate."""
_TYPICAL_SD = 0.42
"""Standard deviation of an item's score, where both orders are judged and some items are ties."""


class GuardFields(Fields):
    """A benchmark on which the candidate must not be worse than the incumbent by `margin`."""

    metric: str = Field(description="`BENCHMARK/METRIC` of `palate eval bench`, such as truthfulqa/mc1.")
    margin: float = Field(gt=0, description="Largest accepted loss, in units of the metric (0.03 is 3 points).")
    n: int = Field(gt=1, description="Number of items of the benchmark.")
    discordant: float | None = Field(
        None, gt=0, le=1, description="Expected share of items that two equal models score differently, of 0 and 1."
    )
    sd: float | None = Field(None, gt=0, description="Expected standard deviation of the change of an item.")
    lower_is_better: bool = Field(False, description="Whether a lower value is better, as of over-refusal.")

    @model_validator(mode="after")
    def _check_spread(self) -> GuardFields:
        if (self.discordant is None) == (self.sd is None):
            raise ValueError(f"guards: {self.metric} needs discordant (scores 0 and 1) or sd (others), not both")
        return self

    def pass_probability(self, alpha: float) -> float:
        """How often an equal model passes this guard."""
        sd = math.sqrt(self.discordant) if self.discordant is not None else self.sd or 0.0
        return pass_probability(self.margin, sd / math.sqrt(self.n), alpha=alpha)


class DecodingFields(Fields):
    """Decoding of the answers, as `palate eval winrate` has it."""

    max_new_tokens: int = Field(256, ge=1, description="Longest answer, in tokens.")
    temperature: float = Field(0.0, ge=0, description="0 takes the likeliest token.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling.")
    seed: int = Field(42, ge=0, description="Seed of the sampling.")


class GateFields(Fields):
    """The keys of a gate's config file."""

    prompts: str = Field(description="Dataset of the prompts that both models answer.")
    n: int = Field(400, description="Number of these prompts; with `sequential` the largest number.")
    judge: str = Field(description="Name of the judge, as in winrate.json (`people` for votes of people).")
    decoding: DecodingFields | None = Field(None, description="Decoding of the answers; none accepts recorded answers.")
    mode: Literal["superiority", "noninferior"] = Field(
        "superiority", description="Whether the candidate must be better, or not worse by `delta`."
    )
    delta: float = Field(0.03, gt=0, lt=0.5, description="Margin of `mode: noninferior`, in win rate.")
    alpha: float = Field(
        0.05, gt=0, le=0.2, description="One-sided error rate of the first attempt; a retry halves it."
    )
    sequential: bool = Field(False, description="Whether the win rate may be looked at before all prompts are judged.")
    guards: tuple[GuardFields, ...] = Field((), description="Benchmarks that must not get worse.")
    must_pass: int = Field(0, ge=0, description="Number of must-pass prompts; none of them may fail.")
    length_ratio: tuple[float, float] = Field((0.8, 1.25), description="Range of mean length, candidate : incumbent.")
    empty_or_repeated: float = Field(0.005, ge=0, le=1, description="Largest share of empty or repeating answers.")
    latency_p95: float | None = Field(
        None, ge=0, description="Largest increase of the 95th percentile of the latency: 0.1 is 10 %."
    )
    judged: float = Field(0.98, gt=0, le=1, description="Smallest share of prompts with a verdict.")
    consistency: float = Field(0.6, ge=0, le=1, description="Smallest share of equal verdicts in both orders.")
    judge_card: bool = Field(True, description="Whether the judge needs a card of `palate judge calibrate`.")
    card_days: float = Field(28, gt=0, description="Largest age of the judge's card, in days.")

    @model_validator(mode="after")
    def _check_together(self) -> GateFields:
        if self.n < LEAST_PROMPTS:
            raise ValueError(f"n must be at least {LEAST_PROMPTS}: fewer prompts cannot decide a win rate")
        names = [guard.metric for guard in self.guards]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"guards has {twice} twice; a metric has one margin")
        if not 0 < self.length_ratio[0] < self.length_ratio[1]:
            raise ValueError("length_ratio must be two numbers above 0, the lower first")
        return self

    @property
    def threshold(self) -> float:
        """What the lower bound of the win rate must exceed."""
        return 0.5 if self.mode == "superiority" else 0.5 - self.delta


def gate_hash(config: GateFields, prompts_hash: str) -> str:
    """SHA-256 of the keys and the prompts' hash: two gates with the same hash ask the same of a candidate."""
    return json_hash([config.resolved(), prompts_hash])


def load_gate_config(path: str | Path) -> GateFields:
    """Read and check a gate's config.

    Raises:
        ConfigError: a key or value is wrong, or an equal model would pass a guard too rarely.
    """
    config = validated(GateFields, read_config_file(path), str(path))
    refused = [
        f"{path}: guards: an equal model would pass {guard.metric} in {100 * chance:.0f} % of gates, below "
        f"{100 * LEAST_PASS:.0f} %; raise its margin of {guard.margin:g} or its n of {guard.n}"
        for guard in config.guards
        if (chance := guard.pass_probability(config.alpha)) < LEAST_PASS
    ]
    if refused:
        raise ConfigError(*refused)
    return config


def chances(config: GateFields, alpha: float) -> dict[str, float]:
    """What the config can find: the smallest true gain found in 80 % of gates, and how often equal models pass guards.

    `smallest gain` is over ½ (over ½ − `delta` in mode noninferior) at the usual spread of scores, 0.42; the others are
    probabilities.
    """
    each = {guard.metric: guard.pass_probability(alpha) for guard in config.guards}
    return {"smallest gain": smallest_effect(_TYPICAL_SD / math.sqrt(config.n), alpha=alpha), **each}
