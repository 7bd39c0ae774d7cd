"""What online methods share: sampled answers as tensors, what is kept of them from step to step, and their metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias, TypeVar

import numpy as np
import torch
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


@dataclass(frozen=True, slots=True)
class Sampled:
    """n sampled answers of this rank, scored, padded to T tokens; the K answers to a prompt stand together.

    Attributes:
        scores: float32 [n], rewards as they were given.
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
    def counted_mask(self) -> Tensor:
        """bool [n, T], the tokens that statistics are taken over."""
        return self.mask & self.counted[:, None]

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
        answers = metrics.get(_ANSWERS, 1.0)
        return {
            name.removeprefix(_PER_ANSWER): value / answers if name.startswith(_PER_ANSWER) else value
            for name, value in metrics.items()
            if name != _ANSWERS
        }


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


def global_whitened(values: Tensor, mask: Tensor, total: Total, *, centre: bool = True) -> Tensor:
    """Masked-in values with variance 1 over all ranks, and mean 0 or, without `centre`, their own; any shape."""
    mean = global_mean(values, mask, total)
    deviation = global_mean((values - mean).square(), mask, total).sqrt()
    scaled = (values - mean) / (deviation + 1e-8)
    return torch.where(mask, scaled if centre else scaled + mean, 0.0)
