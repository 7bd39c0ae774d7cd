"""What is placed on a frontier, and what was measured there: plain values, fit for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from palate.evaluation.subject import ModelSpec
from palate.stats import Interval


@dataclass(frozen=True, slots=True)
class FrontierModel:
    """A model to be placed.

    Attributes:
        name: unique among the points.
        spec: where it comes from.
        group: points of one group are one line in the figure (the checkpoints of a run, the βs of a method).
        method: how it was trained, for tables.
        step: optimiser step of a checkpoint.
    """

    name: str
    spec: ModelSpec
    group: str | None = None
    method: str | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class FrontierAnswer:
    """One sampled answer.

    Attributes:
        point: name of the point that sampled it.
        prompt: place of its prompt among those given, from 0.
        sample: which of the point's answers to that prompt, from 0.
        text: without what ends it.
        tokens: with what ends it.
        ended: it stopped by itself, within max_new_tokens.
        rewards: by name; None where the reward gave no score.
        logp: log π(answer), nats.
        ref_logp: log π_ref(answer), nats.
        kl: Σ over its positions of KL(π(·|prefix) ‖ π_ref(·|prefix)), nats.
    """

    point: str
    prompt: int
    sample: int
    text: str
    tokens: int
    ended: bool
    rewards: Mapping[str, float | None]
    logp: float
    ref_logp: float
    kl: float


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """What was measured of one model. Intervals are of 95 %, the answers to one prompt being a cluster.

    Those of means are Student's; `ended` and `distinct` are shares and have Wilson's (`palate.stats.rate_interval`).

    Attributes:
        name, group, method, step: as of its `FrontierModel`.
        model: folder, hub id or built-in name.
        identity: content hash of its weights.
        reference: whether it is the reference itself, whose KL is 0.
        rewards: by name, the mean over the answers that have a score.
        unscored: by name, how many answers have none.
        kl: KL(π ‖ π_ref) of whole answers in nats, exact over the vocabulary at every position and averaged over the
            sampled prefixes: the figure to plot.
        kl_error: its standard error.
        kl_sampled: the same from the sampled tokens alone, mean of log π − log π_ref; unbiased too, and noisier.
        kl_sampled_error: its standard error.
        tokens: length of an answer, with what ends it.
        ended: share of answers that stopped by themselves.
        distinct: share of a prompt's answers that differ from each other; with K samples at least 1/K.
    """

    name: str
    group: str | None
    method: str | None
    step: int | None
    model: str
    identity: str | None
    reference: bool
    rewards: Mapping[str, Interval]
    kl: Interval
    kl_error: float
    kl_sampled: Interval
    kl_sampled_error: float
    tokens: Interval
    ended: Interval
    distinct: Interval
    unscored: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Frontier:
    """True reward against KL.

    Attributes:
        reference: name of the reference's point, which is the first.
        points: the reference, then the others in the order in which they were given.
        rewards: names, in the order in which they were given.
        prompts: how many were answered.
        left_out: prompts too long to be answered within `cutoff_len`.
        samples: answers to each prompt.
        max_new_tokens: longest answer; the KL is that of answers cut there.
        seed: of the sampling.
        precision: of the forward passes.
        answers: everything that was sampled, point by point.
    """

    reference: str
    points: Sequence[FrontierPoint]
    rewards: Sequence[str]
    prompts: int
    left_out: int
    samples: int
    max_new_tokens: int
    seed: int
    precision: str
    answers: Sequence[FrontierAnswer]

    def to_json(self) -> dict[str, Any]:
        """All but the answers."""
        found = {name: getattr(self, name) for name in self.__slots__ if name not in ("answers", "points")}
        return {**found, "rewards": list(self.rewards), "points": [asdict(point) for point in self.points]}

    def answer_rows(self) -> list[dict[str, Any]]:
        """A JSON object for each answer."""
        return [asdict(answer) for answer in self.answers]
