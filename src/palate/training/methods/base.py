"""What a method is: which record it reads, whether it needs a reference, and its loss per group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from palate.models.logprobs import Logps
from palate.records import Record
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup


@dataclass(frozen=True, slots=True)
class LossOutput:
    """One loss per group, and what to log of each.

    Attributes:
        loss: float32 [G], with gradient.
        metrics: name → float32 [G], without gradient; logged as weighted means over examples.
    """

    loss: torch.Tensor
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A way to learn from groups. The trainer knows no more of it than this.

    Attributes:
        name: as logged.
        record: the record type that it reads.
        needs_reference: whether `loss` gets reference log-probabilities.
        couples_batch: whether its loss depends on statistics of the whole step, so that the step is scored first.
        start_loss: the loss when policy and reference are equal, where it is known.
    """

    name: str
    record: type[Record]
    needs_reference: bool
    couples_batch: bool
    start_loss: float | None

    def weight(self, group: EncodedGroup) -> float:
        """How much the group counts in the step's mean."""
        ...

    def loss(self, policy: Logps, reference: Logps | None, batch: Batch) -> LossOutput:
        """Per-group losses of a batch, or of all micro-batches of a step at once where `couples_batch`."""
        ...
