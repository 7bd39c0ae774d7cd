"""Whether the first update moved the policy and left the reference alone, whatever the reference is.

That Δ is exactly 0 after an update would show the same, but stored reference values differ from live ones by rounding,
and then Δ is 0 never. So each is compared with its own first scores.
"""

from __future__ import annotations

import torch
from torch import nn

from palate.models.precision import Precision
from palate.models.reference.kinds import PolicyAtStart, Reference
from palate.text.batch import Batch


class Stillness:
    """Remembers the start, to compare with later.

    Args:
        policy: the model that trains.
        reference: what it is compared with.
        batch: one small batch on the run's device, to score now and later.
        precision: of the run.
    """

    def __init__(self, policy: nn.Module, reference: Reference, batch: Batch, precision: Precision) -> None:
        self._policy = policy
        self._own = PolicyAtStart(policy, precision, batch.input_ids.device, "")
        self._reference = reference
        self._batch = batch
        self._sums = _checksums(policy)
        self._before = self._scores()

    def diagnose(self) -> tuple[str, bool] | None:
        """What is wrong, in one line, and whether it is an error (rounding is not); None where the policy moved."""
        (theirs_before, ours_before), (theirs, ours) = self._before, self._scores()
        if not torch.equal(theirs, theirs_before):
            return "the reference moved: it shares weights with the policy that trains", True
        if not torch.equal(ours, ours_before):
            return None
        if _checksums(self._policy) == self._sums:
            return "no trainable weight changed: the optimiser does not reach the policy's parameters", True
        return "the weights changed by less than the run's precision can show", False

    def _scores(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's token log-probabilities under the reference and under the policy, [M] each."""
        reference, own = (one.logps([self._batch])[0].logps for one in (self._reference, self._own))
        return reference, own


def _checksums(model: nn.Module) -> list[float]:
    parameters = [p.detach().double() for p in model.parameters() if p.requires_grad]
    return torch.stack([p.sum() + p.abs().sum() for p in parameters]).tolist()
