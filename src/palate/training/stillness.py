"""Why policy and reference still agree exactly after an update: a moved reference, an idle optimiser, or rounding."""

from __future__ import annotations

import torch
from torch import nn

from palate.models.reference import Reference
from palate.text.batch import Batch


class Stillness:
    """Remembers the start, to tell the three apart later.

    Args:
        policy: the model that trains.
        reference: what it is compared with.
        batch: one small batch on the run's device, to score with the reference now and later.
    """

    def __init__(self, policy: nn.Module, reference: Reference, batch: Batch) -> None:
        self._policy = policy
        self._reference = reference
        self._batch = batch
        self._sums = _checksums(policy)
        self._logps = reference.logps([batch])[0].logps

    def diagnose(self) -> tuple[str, bool]:
        """The reason in one line, and whether it is an error (rounding is not)."""
        if not torch.equal(self._reference.logps([self._batch])[0].logps, self._logps):
            return "the reference moved: it shares weights with the policy that trains", True
        if _checksums(self._policy) == self._sums:
            return "no trainable weight changed: the optimiser does not reach the policy's parameters", True
        return "the weights changed by less than the run's precision can show", False


def _checksums(model: nn.Module) -> list[float]:
    parameters = [p.detach().double() for p in model.parameters() if p.requires_grad]
    return torch.stack([p.sum() + p.abs().sum() for p in parameters]).tolist()
