"""Shared by the online methods: sampled answers as tensors, their token values and metrics, and means over ranks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.models.scoring.logps import Logps
from palate.text.groups import EncodedGroup
from palate.training.methods.base import Method, Rows
from palate.training.processes import sum_over_ranks

GIVEN = "given: "
"""Prefix of a metric's name for the share of answers that have a value of it."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """n sampled and scored answers of this rank, padded to T tokens; the K answers to a prompt are consecutive.

    Attributes:
        scores: float64 [n], rewards; NaN where no reward scored the answer.
        ended: bool [n], whether the answer ended its turn.
        mask: bool [n, T].
        logps: float32 [n, T], log π of the policy that sampled.
        ref_logps: float32 [n, T].
        values: float32 [n, T], outputs of the value head; None without one.
        counted: bool [n], False for rows that are repeated only to give every rank the same number of rows.
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
        """bool [n], True if the answer has a reward; answers without one are left out of all comparisons."""
        return ~self.scores.isnan()

    @property
    def counted_mask(self) -> Tensor:
        """bool [n, T], the tokens that statistics are computed over."""
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
    """A method that learns from answers sampled by the current policy.

    Attributes:
        generations: K, the number of answers to each prompt.
        updates: optimiser steps on each batch of sampled answers.
    """

    generations: int
    updates: int

    @abstractmethod
    def prepare(self, sampled: Sampled, *, training: bool) -> Mapping[str, Tensor]:
        """The values that `loss` reads, by name: one per token, [n, T], or one per answer, [n].

        All ranks call it together.

        Args:
            sampled: the answers of this rank.
            training: False for held-out prompts, which do not change running statistics.
        """


def sampled_metrics(
    groups: Sequence[EncodedGroup], device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Metrics of the groups' sampled answers, name → [G], and their weights, name → [G].

    Their means are over answers, not tokens, and rewards are averaged over the answers that have one. `unrewarded` and
    `abstained/NAME` are the shares of answers without.
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


def tokens_of(groups: Sequence[EncodedGroup], names: Sequence[str], device: torch.device) -> dict[str, Tensor]:
    """The values that `prepare` returned under these names for the groups' trained tokens, float32 [M] each."""
    return {name: torch.cat([torch.from_numpy(group.tokens[name]) for group in groups]).to(device) for name in names}


def mean_by_group(values: Tensor, rows: Rows) -> Tensor:
    """Means of token values [M] over the tokens of each group, [G]."""
    owner = rows.group_of[rows.completion_of]
    zeros = values.new_zeros(len(rows.groups))
    counts = zeros.index_add(0, owner, torch.ones_like(values))
    return zeros.index_add(0, owner, values) / counts.clamp(min=1)


def global_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over all ranks of the values where the mask is true, scalar."""
    sums = sum_over_ranks(torch.stack([torch.where(mask, values, 0.0).double().sum(), mask.double().sum()]))
    return (sums[0] / sums[1].clamp(min=1)).to(values.dtype)


def global_whitened(values: Tensor, mask: Tensor, *, centre: bool = True, noise: float = 0.0) -> Tensor:
    """Values scaled to variance 1 over all ranks and to mean 0, or to their own mean without `centre`; any shape.

    Only values where the mask is true count; the others become 0. Values whose standard deviation is at most `noise`
    differ only by rounding and are replaced by their mean.
    """
    mean = global_mean(values, mask)
    deviation = global_mean((values - mean).square(), mask).sqrt()
    scaled = (values - mean) / (deviation + 1e-8) if deviation > noise else torch.zeros_like(values)
    return torch.where(mask, scaled if centre else scaled + mean, 0.0)
