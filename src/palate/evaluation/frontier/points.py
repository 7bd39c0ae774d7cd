"""The models of a frontier, and the results: plain values, fit for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from palate.evaluation.subject import ModelSpec
from palate.stats import Interval


@dataclass(frozen=True, slots=True)
class FrontierModel:
    """A model to measure.

    Attributes:
        name: unique among the points.
        spec: where it is loaded from.
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
        prompt: index of its prompt among those given.
        sample: index among the point's answers to that prompt.
        text: without the end-of-turn token.
        tokens: with the end-of-turn token.
        ended: whether it ended by itself, within max_new_tokens.
        rewards: by name; None if the reward gave no score.
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
    """The results of one model, with 95 % intervals; the answers to one prompt are a cluster.

    Means have Student's intervals; `ended` and `distinct` are shares and have Wilson's (`palate.stats.rate_interval`).

    Attributes:
        name, group, method, step: of its `FrontierModel`.
        model: folder, hub id or built-in name.
        identity: content hash of its weights.
        reference: whether it is the reference itself, whose KL is 0.
        rewards: by name, the mean over the answers with a score.
        unscored: by name, the number of answers without a score.
        kl: KL(π ‖ π_ref) of whole answers in nats, exact over the vocabulary at every position and averaged over the
            sampled prefixes; plot this one.
        kl_error: its standard error.
        kl_sampled: mean of log π − log π_ref of the sampled tokens; an unbiased but noisier estimate of the same KL.
        kl_sampled_error: its standard error.
        tokens: length of an answer, with the end-of-turn token.
        ended: share of answers that ended by themselves.
        distinct: share of different answers to the same prompt; with K samples at least 1/K.
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
    """Reward against KL.

    Attributes:
        reference: name of the reference's point, the first one.
        points: the reference, then the others in the given order.
        rewards: names, in the given order.
        prompts: number of answered prompts.
        left_out: number of prompts too long to be answered within `cutoff_len`.
        samples: answers to each prompt.
        max_new_tokens: longest answer; the KL is that of answers truncated there.
        seed: of the sampling.
        precision: of the forward passes.
        answers: all sampled answers, by point.
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
        """Everything but the answers."""
        found = {name: getattr(self, name) for name in self.__slots__ if name not in ("answers", "points")}
        return {**found, "rewards": list(self.rewards), "points": [asdict(point) for point in self.points]}

    def answer_rows(self) -> list[dict[str, Any]]:
        """A JSON object for each answer."""
        return [asdict(answer) for answer in self.answers]
