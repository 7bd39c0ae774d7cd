"""What a row of the objectives' table says, and what follows from it once the options are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from palate.config.objectives.options import OPTIONS, Option

Family: TypeAlias = Literal["paired", "ranked", "unpaired", "reward"]
Options: TypeAlias = Mapping[str, Any]

LOG2 = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is known of a loss without computing it.

    Attributes:
        name: the value of `pref_loss`.
        family: which records it reads: pairs, rankings, labelled completions, or pairs for a reward head.
        formula: the loss of one example.
        summary: one line for people.
        options: the config keys that it reads, its modifiers' keys not among them.
        modifiers: the keys of the modifiers that it admits.
        needs_reference: whether it reads reference log-probabilities.
        couples_batch: whether one example's loss depends on the others of the step (`couples` asks with the options).
        length_normalised: whether it reads per-token means (`averages` asks with the options known).
        inputs: further arguments of the function, which the caller reads from rows or carries from step to step.
        start: the loss of the bare objective at step 0, or how it follows from options and number of completions;
            None where it depends on the data.
        source: arXiv id.
        reproduces: whose option of which name this equals, and where peers differ.
        when_to_use: one line of advice.
    """

    name: str
    family: Family
    formula: str
    summary: str
    options: Mapping[str, Option]
    modifiers: tuple[str, ...]
    needs_reference: bool = True
    couples_batch: bool = False
    length_normalised: bool = False
    inputs: tuple[str, ...] = ()
    start: float | Callable[[Options, int], float | None] | None
    source: str
    reproduces: str
    when_to_use: str

    @property
    def all_options(self) -> dict[str, Option]:
        """Its own options and then those of its modifiers, by config key."""
        return {**self.options, **{key: OPTIONS[key] for key in self.modifiers}}

    def arguments(self, options: Options) -> dict[str, Any]:
        """The keyword arguments of the loss function for resolved `options`, modifiers left out."""
        values = {option.argument: options[key] for key, option in self.options.items()}
        if "weights" in values:
            if "dimension" in values:
                values["dimension"] = list(values["weights"]).index(values["dimension"])
            values["weights"] = tuple(values["weights"].values())
        return values

    def modifier_arguments(self, options: Options) -> dict[str, Any]:
        """The fields of `objectives.modifiers.Modifiers` for resolved `options`."""
        return {OPTIONS[key].argument: options[key] for key in self.modifiers}

    def averages(self, options: Options) -> bool:
        """Whether the loss, so its rewards too, is in nats per token and not per completion."""
        return self.length_normalised if "ipo_logps" not in self.options else options["ipo_logps"] == "mean"

    def couples(self, options: Options) -> bool:
        """Whether the step must be scored as a whole: by the objective's own nature, or by BCO mixed in."""
        return self.couples_batch or bool(options.get("pref_bco_weight", 0.0))

    def token_level(self, options: Options) -> bool:
        """Whether the reference must be known token by token, not only summed (`ld_alpha` below 1)."""
        return bool(options.get("ld_alpha", 1.0) != 1.0)

    def reward_scale(self, options: Options) -> float:
        """β of the reported rewards: the objective's own β, orpo's λ, or 1 where there is none."""
        return float(options.get("pref_beta", options.get("orpo_lambda", 1.0)))

    def loss_at_start(self, options: Options, *, completions: int = 2) -> float | None:
        """The loss when the policy still equals the reference; None where it depends on the data.

        `completions` is the length of a ranking.
        """
        if options.get("pref_ftx", 0.0) > 0.0 or options.get("use_weighting", False):
            return None
        bare = self.start(options, completions) if callable(self.start) else self.start
        bco = options.get("pref_bco_weight", 0.0)
        return None if bare is None else (bare + bco * 2.0 * LOG2) / (1.0 + bco)


def own(*keys: str, **changed: Option) -> Mapping[str, Option]:
    """An objective's options, in `OPTIONS`' order: `keys` in their general form, `changed` in default or range."""
    options = {**{key: OPTIONS[key] for key in keys}, **changed}
    return MappingProxyType({key: options[key] for key in OPTIONS if key in options})
