"""The base class of training methods: traits that the trainer reads, and a loss per group."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from palate.models.scoring.logps import Logps
from palate.models.scoring.rewards import end_index
from palate.objectives import RunningMean
from palate.records import Record
from palate.text.batch import Batch
from palate.text.groups import EncodedGroup
from palate.training.parts import Part

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class LossOutput:
    """One loss per group, and metrics.

    Attributes:
        loss: float32 [G], with gradient.
        metrics: name → float32 [G], without gradient; logged as weighted means over the groups that have the value:
            NaN marks a group without one.
        weights: name → float32 [G], for metrics with other weights than the loss.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)


Rows: TypeAlias = Batch | Part
"""The groups of a loss, G of them with C completions and M trained tokens: a batch, or a whole coupled step, whose
groups carry no tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Properties of a method that the trainer reads.

    Attributes:
        name: the method's name in logs.
        record: the record type that it trains on.
        needs_reference: True if `loss` needs reference log-probabilities.
        couples_batch: True if a group's loss depends on the other groups of the step; the whole step is then scored
            first (`training.coupled`).
        head: `lm` for logits, `value` for logits and a value per token, `reward` for one reward per completion.
        counts_tokens: True if a group's weight is multiplied by its number of trained tokens.
        square_sums: True if the forward pass also returns log Σ_v π(v)² of each token.
        start_loss: the loss of a group of K completions while policy equals reference; None if unknown.
    """

    name: str
    record: type[Record]
    needs_reference: bool = False
    couples_batch: bool = False
    head: Literal["lm", "value", "reward"] = "lm"
    counts_tokens: bool = False
    square_sums: bool = False
    start_loss: Callable[[int], float | None] = lambda _: None

    def weight(self, group: EncodedGroup) -> float:
        """The group's weight in the step's mean."""
        if not self.counts_tokens:
            return group.weight
        return group.weight * sum(int(completion.trained.sum()) for completion in group.completions)

    def weights(self, batch: Batch) -> Tensor:
        """`weight` of each group of a batch, float32 [G]."""
        return torch.tensor([self.weight(group) for group in batch.groups], device=batch.weights.device)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """Extra keyword arguments for the policy's forward pass."""
        if self.head == "reward":
            return {"end_index": end_index(batch)}
        return {"square_sums": True} if self.square_sums else {}


class Arranged(NamedTuple):
    """The groups of a split after the method's preparation, and warnings for the user."""

    groups: Sequence[EncodedGroup]
    notices: tuple[str, ...] = ()


class Method(ABC, Generic[S]):
    """A training method, built from its stage's config. S is `Logps`, or the rewards [C] of a reward model.

    Attributes:
        traits: properties that the trainer reads.
        state: running statistics, saved with every checkpoint. Replaced, never changed in place.
    """

    traits: Traits
    state: Mapping[str, float] = MappingProxyType({})

    @abstractmethod
    def loss(self, policy: S, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        """Losses and metrics of a batch's groups; with `couples_batch`, of all groups of a step.

        Args:
            policy: the policy's scores of the rows.
            reference: the reference's log-probabilities; None without a reference.
            rows: the groups, and which tokens and completions belong to them.
            training: update running statistics with these rows before computing the loss.
        """

    def arrange(self, groups: Sequence[EncodedGroup], *, seed: int) -> Arranged:
        """The groups of a split, prepared for training; raises DataError if the method cannot learn from them."""
        del seed
        return Arranged(groups)


def detached(metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The metrics without their gradient."""
    return {name: value.detach() for name, value in metrics.items()}


def with_rewards(state: Mapping[str, float], rewards: Tensor) -> dict[str, float]:
    """The state after adding `rewards` [m] to the running mean of all rewards, BCO's reward shift."""
    before = RunningMean(int(state.get("rewards_seen", 0)), state.get("reward_mean", 0.0))
    after = before.updated(rewards)
    return {"rewards_seen": after.count, "reward_mean": after.mean} if after.count else {}


def summarise(means: Mapping[str, float]) -> dict[str, float]:
    """The metrics to log, from means over groups.

    Without margins per group (KTO), the margin is the difference of the two mean rewards. The share of answers without
    a reward is logged only if it is above 0; if it is 1, the reward is NaN.
    """
    logged = {
        name: value
        for name, value in means.items()
        if value > 1e-6 or not (name == "unrewarded" or name.startswith("abstained/"))
    }
    for name, value in means.items():
        if value == 1.0 and name == "unrewarded":
            logged["reward"] = math.nan
        elif value == 1.0 and name.startswith("abstained/"):
            logged[f"rewards/{name.removeprefix('abstained/')}"] = math.nan
    if "rewards/chosen" in logged and "rewards/rejected" in logged and "rewards/margins" not in logged:
        logged["rewards/margins"] = logged["rewards/chosen"] - logged["rewards/rejected"]
    return logged
