"""What online methods share: sampled answers as tensors, what is kept of them from step to step, and their metrics."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from palate.records import Record
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.methods.base import LossOutput, Method, Rows

S = TypeVar("S")

Total: TypeAlias = Callable[[Tensor], Tensor]
"""Sums a tensor over all ranks."""

TOKENS, SEEN = "tokens", "seen"
"""Keys of a filled group's `extra`: name → numbers of its trained tokens, and name → its metrics."""

_PER_ANSWER, _ANSWERS = "per answer: ", "answers"

GIVEN = "given: "
"""Before the name of a metric that some answers lack: the share of answers that have it."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """n sampled answers of this rank, scored, padded to T tokens; the K answers to a prompt stand together.

    Attributes:
        scores: float64 [n], rewards as they were given; NaN where no reward scored the answer.
        ended: bool [n], whether the answer ended its turn.
        mask: bool [n, T].
        logps: float32 [n, T], log π of the policy that sampled.
        ref_logps: float32 [n, T].
        values: float32 [n, T] of the value head; None without one.
        counted: bool [n], False for rows that only even out ranks.
    """

    scores: Tensor
    ended: Tensor
    mask: Tensor
    logps: Tensor
    ref_logps: Tensor
    values: Tensor | None
    counted: Tensor

    @property
    def rewarded(self) -> Tensor:
        """bool [n], whether the answer has a reward; one without takes no part in any comparison."""
        return ~self.scores.isnan()

    @property
    def counted_mask(self) -> Tensor:
        """bool [n, T], the tokens that statistics are taken over."""
        return self.mask & (self.counted & self.rewarded)[:, None]

    @property
    def kl(self) -> Tensor:
        """float32 [n], Σ log π − log π_ref of each answer: an estimate of its KL in nats, of either sign."""
        return torch.where(self.mask, self.logps - self.ref_logps, 0.0).sum(-1)


class OnlineMethod(Method[S]):
    """A method that learns from answers which the policy has just sampled.

    Attributes:
        generations: K answers to each prompt.
        updates: optimiser steps on each batch of sampled answers.
        longest: most tokens of an answer.
        value_head: whether the model needs one.
    """

    record = Record
    needs_reference = True
    value_head: ClassVar[bool] = False
    generations: int
    updates: int
    longest: int

    @abstractmethod
    def prepare(self, sampled: Sampled, total: Total, *, training: bool) -> Mapping[str, Tensor]:
        """What `loss` needs of each token, name → [n, T] or, the same for all tokens of an answer, [n].

        Args:
            total: sums over ranks; every rank prepares at the same time.
            training: False for held-out prompts, which no running statistic learns from.
        """

    def sized(self, groups: Sequence[EncodedGroup]) -> list[EncodedGroup]:
        answer = EncodedCompletion(np.zeros(self.longest, dtype=np.int32), np.ones(self.longest, dtype=np.bool_))
        return [replace(group, completions=(answer,) * self.generations) for group in groups]

    def seen(self, groups: Sequence[EncodedGroup], device: torch.device) -> dict[str, Tensor]:
        """The metrics that sampling left with each group, [G], for `summarise`: means over answers in the end.

        The trainer weighs metrics as it weighs losses, which may be by tokens; the weight is divided out.
        """
        names = groups[0].extra[SEEN] if groups else {}
        share = [group.weight / self.weight(group) if group.weight else 0.0 for group in groups]
        found = {name: [group.extra[SEEN][name] * part for group, part in zip(groups, share)] for name in names}
        return {
            _ANSWERS: torch.tensor(share, device=device),
            **{_PER_ANSWER + name: torch.tensor(values, device=device) for name, values in found.items()},
        }

    def by_row(
        self, groups: Sequence[EncodedGroup], output: LossOutput, weights: Tensor
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """What sampling left with each group, which counts once whatever its tokens."""
        names = groups[0].extra[SEEN] if groups else {}
        counted = torch.tensor([group.weight for group in groups], device=weights.device)
        seen = {name: torch.tensor([group.extra[SEEN][name] for group in groups]) for name in names}
        return {"entropy": output.metrics["entropy"], **seen}, counted

    def summarise(self, metrics: dict[str, float]) -> dict[str, float]:
        """Means over answers; of a reward over those that have it, and the share of those that lack it beside."""
        answers = metrics.get(_ANSWERS, 1.0)
        means = {
            name.removeprefix(_PER_ANSWER): value / answers if name.startswith(_PER_ANSWER) else value
            for name, value in metrics.items()
            if name != _ANSWERS
        }
        given = {name.removeprefix(GIVEN): means.pop(name) for name in list(means) if name.startswith(GIVEN)}
        for name, share in given.items():
            means[name] = means[name] / share if share else math.nan
            if share < 1 - 1e-6:
                means["unrewarded" if name == "reward" else f"abstained/{name.removeprefix('rewards/')}"] = 1 - share
        return means


def tokens_of(groups: Sequence[EncodedGroup], name: str, device: torch.device) -> Tensor:
    """What `prepare` said of each trained token of the groups, float32 [M]."""
    return torch.cat([torch.from_numpy(group.extra[TOKENS][name]) for group in groups]).to(device)


def mean_by_group(values: Tensor, rows: Rows) -> Tensor:
    """Means of token values [M] over the tokens of each group, [G]."""
    owner = rows.group_of[rows.completion_of]
    zeros = values.new_zeros(len(rows.groups))
    counts = zeros.index_add(0, owner, torch.ones_like(values))
    return zeros.index_add(0, owner, values) / counts.clamp(min=1)


def global_mean(values: Tensor, mask: Tensor, total: Total) -> Tensor:
    """The mean of masked-in values over all ranks, scalar."""
    sums = total(torch.stack([torch.where(mask, values, 0.0).double().sum(), mask.double().sum()]))
    return (sums[0] / sums[1].clamp(min=1)).to(values.dtype)


def global_whitened(values: Tensor, mask: Tensor, total: Total, *, centre: bool = True, noise: float = 0.0) -> Tensor:
    """Masked-in values with variance 1 over all ranks, and mean 0 or, without `centre`, their own; any shape.

    Values whose deviation is at most `noise` differ by rounding alone: they become their mean, not noise of variance 1.
    """
    mean = global_mean(values, mask, total)
    deviation = global_mean((values - mean).square(), mask, total).sqrt()
    scaled = (values - mean) / (deviation + 1e-8) if deviation > noise else torch.zeros_like(values)
    return torch.where(mask, scaled if centre else scaled + mean, 0.0)


def global_highest(values: Tensor) -> Tensor:
    """The largest over all ranks of each value, any shape."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        values = values.clone()
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values
