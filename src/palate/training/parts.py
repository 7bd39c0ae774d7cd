"""The scored groups of a step, of one rank or of all ranks: the input of a coupled loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist

from palate.models.scoring.logps import Logps, TokenLogps, per_completion
from palate.text.batch import Batch
from palate.text.groups import EncodedGroup
from palate.training.processes import gather, have_joined

_TENSORS = ("weights", "completion_of", "group_of", "logps", "square_sums", "reference")
_NO_TOKENS = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Part:
    """The scored groups of one or of all ranks: M trained tokens, C completions, G groups. It is `Rows` to a loss.

    Attributes:
        groups: without their tokens.
        weights: float32 [G].
        completion_of: int64 [M].
        group_of: int64 [C].
        logps: float32 [M], log π of each trained token under the policy.
        square_sums: float32 [M], log Σ p² of the policy; empty if the method does not need them.
        reference: float32 [M]; empty without a reference.
    """

    groups: tuple[EncodedGroup, ...]
    weights: torch.Tensor
    completion_of: torch.Tensor
    group_of: torch.Tensor
    logps: torch.Tensor
    square_sums: torch.Tensor
    reference: torch.Tensor

    @property
    def completions(self) -> int:
        return self.group_of.numel()

    @classmethod
    def of(cls, batch: Batch, weights: torch.Tensor, policy: TokenLogps, reference: TokenLogps | None) -> Part:
        """The part of one scored batch."""
        nothing = policy.logps.new_zeros(0, dtype=torch.float32)
        return cls(
            tuple(replace(group, prompt_ids=_NO_TOKENS, completions=()) for group in batch.groups),
            weights,
            batch.completion_of,
            batch.group_of,
            policy.logps.detach().float(),
            nothing if policy.log_square_sums is None else policy.log_square_sums.float(),
            nothing if reference is None else reference.logps.float(),
        )

    @classmethod
    def joined(cls, parts: Iterable[Part]) -> Part:
        """Several parts as one, in their order."""
        parts = list(parts)
        completions = np.cumsum([0, *(part.completions for part in parts)])
        groups = np.cumsum([0, *(len(part.groups) for part in parts)])
        moved = [
            replace(part, completion_of=part.completion_of + int(c), group_of=part.group_of + int(g))
            for part, c, g in zip(parts, completions, groups)
        ]
        tensors = {name: torch.cat([getattr(part, name) for part in moved]) for name in _TENSORS}
        return cls(tuple(group for part in parts for group in part.groups), **tensors)

    def counted(self) -> Part:
        """Without groups of weight 0: rows that are repeated to even out ranks must not enter any statistic."""
        groups = self.weights > 0
        completions = groups[self.group_of]
        tokens = completions[self.completion_of]
        return Part(
            tuple(group for group, keep in zip(self.groups, groups.tolist()) if keep),
            self.weights[groups],
            (completions.cumsum(0) - 1)[self.completion_of[tokens]],
            (groups.cumsum(0) - 1)[self.group_of[completions]],
            self.logps[tokens],
            self.square_sums[tokens] if self.square_sums.numel() else self.square_sums,
            self.reference[tokens] if self.reference.numel() else self.reference,
        )

    def policy_logps(self, token_logps: torch.Tensor) -> Logps:
        """The policy's log-probabilities for these token values, [M], in place of the part's own."""
        return per_completion(TokenLogps(token_logps, self.square_sums if self.square_sums.numel() else None), self)

    def reference_logps(self) -> Logps | None:
        if not self.reference.numel() and self.logps.numel():
            return None
        return per_completion(TokenLogps(self.reference), self)

    def to(self, device: torch.device) -> Part:
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})


def gathered(part: Part) -> tuple[list[Part], int]:
    """The parts of all ranks in their order, and the index of this rank's."""
    return (gather(part.to(torch.device("cpu"))), dist.get_rank()) if have_joined() else ([part], 0)
