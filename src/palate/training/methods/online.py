"""What online methods share: sampled answers as tensors, what is kept of them from step to step, and their metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from palate.models.score import Logps
from palate.text.groups import EncodedGroup
from palate.training.methods.base import Method, Rows

Total: TypeAlias = Callable[[Tensor], Tensor]
"""Sums a tensor over all ranks."""

GIVEN = "given: "
"""Before the name of a metric that some answers lack: the share of answers that have it."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """n sampled answers of this rank, scored, padded to T tokens; the K answers to a prompt are neighbours.

    Attributes:
        scores: float64 [n], rewards; NaN where no reward scored the answer.
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
    def log_ratio(self) -> Tensor:
        """float32 [n, T], log π − log π_ref: the k1 estimate of each token's KL."""
        return self.logps - self.ref_logps

    @property
    def kl(self) -> Tensor:
        """float32 [n], the k1 estimate of each answer's KL in nats."""
        return torch.where(self.mask, self.log_ratio, 0.0).sum(-1)


class OnlineMethod(Method[Logps]):
    """A method that learns from answers which the policy has just sampled.

    Attributes:
        generations: K answers to each prompt.
        updates: optimiser steps on each batch of sampled answers.
    """

    generations: int
    updates: int

    @abstractmethod
    def prepare(self, sampled: Sampled, total: Total, *, training: bool) -> Mapping[str, Tensor]:
        """What `loss` needs of each token, name → [n, T] or, the same for all tokens of an answer, [n].

        Args:
            total: sums over ranks; every rank prepares at the same time.
            training: False for held-out prompts, which no running statistic learns from.
        """


def sampled_metrics(
    groups: Sequence[EncodedGroup], device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What sampling measured of each group, [G], and what it is weighted by, [G]: means over answers, not tokens.

    A reward is averaged over the answers that have it; `unrewarded` and `abstained/NAME` are the shares without.
    """
    weight = torch.tensor([group.weight for group in groups], device=device)
    metrics: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for name in groups[0].metrics if groups else ():
        if name.startswith(GIVEN):
            continue
        value = torch.tensor([group.metrics[name] for group in groups], device=device)
        if GIVEN + name in groups[0].metrics:
            share = torch.tensor([group.metrics[GIVEN + name] for group in groups], device=device)
            missing = "unrewarded" if name == "reward" else f"abstained/{name.removeprefix('rewards/')}"
            metrics |= {name: value / share, missing: 1 - share}  # NaN for a group without any reward
            weights |= {name: weight * share, missing: weight}
        else:
            metrics[name], weights[name] = value, weight
    return metrics, weights


def tokens_of(groups: Sequence[EncodedGroup], name: str, device: torch.device) -> Tensor:
    """What `prepare` returned for each trained token of the groups, float32 [M]."""
    return torch.cat([torch.from_numpy(group.tokens[name]) for group in groups]).to(device)


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

    Values whose deviation is at most `noise` differ by rounding alone and become their mean.
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
