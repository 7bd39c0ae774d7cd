"""The first steps of a run whose reference is the starting policy: margins of 0, then an update that moves the policy.

Whether the policy moved cannot be read off Δ = 0: stored reference values differ from live ones by rounding, so Δ is
never exactly 0. Instead, policy and reference are each compared with their own first scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from palate.errors import TrainingError
from palate.models.precision import Precision
from palate.models.reference.kinds import PolicyAtStart, Reference
from palate.text.batch import Batch

_START_TOLERANCE = 1e-2
# Values that were scored in other batches and in half precision: up to a nat of an answer's few hundred is rounding.
_ROUNDED_NATS = 2.0
_ROUNDED_LOSS = 0.25


class PlateauCheck:
    """Tells whether the policy has moved since this object was made, and the reference has not.

    Args:
        policy: the model that trains.
        reference: what it is compared with.
        batch: one small batch on the run's device, scored now and later.
        precision: of the run.
        sharded: the model will be sharded, and computes in another order from then on.
    """

    def __init__(
        self, policy: nn.Module, reference: Reference, batch: Batch, precision: Precision, *, sharded: bool = False
    ) -> None:
        self._tolerance = {"rtol": 1e-3, "atol": 1e-2} if sharded else {"rtol": 0.0, "atol": 0.0}
        self._policy = policy
        self._start = PolicyAtStart(policy, precision, batch.input_ids.device, "")
        self._reference = reference
        self._batch = batch
        self._sums = _checksums(policy)
        self._before = self._scores()

    def diagnose(self) -> tuple[str, bool] | None:
        """What is wrong, and whether it is an error (rounding is not); None where only the policy moved."""
        (reference_before, policy_before), (reference, policy) = self._before, self._scores()
        if not torch.allclose(reference, reference_before, **self._tolerance):
            return "the reference moved: it shares weights with the policy that trains", True
        if not torch.equal(policy, policy_before):
            return None
        if _checksums(self._policy) == self._sums:
            return "no trainable weight changed: the optimiser does not reach the policy's parameters", True
        return "the weights changed by less than the run's precision can show", False

    def _scores(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's token log-probabilities under the reference and under the policy, [M] each."""
        reference, policy = (model.logps([self._batch])[0].logps for model in (self._reference, self._start))
        return reference, policy


@dataclass
class StartCheck:
    """Checks the first step's margin and loss, and once that the first update moved the policy.

    Attributes:
        diagnose: `PlateauCheck.diagnose`, called once, after the first step whose learning rate was above 0.
        start_loss: the known loss of the first step's groups, or None; called once.
        exact: False if reference values were stored in half precision, so that the first Δ is 0 up to rounding.
    """

    diagnose: Callable[[], tuple[str, bool] | None]
    start_loss: Callable[[], float | None]
    exact: bool = True
    _started: bool = field(default=False, init=False)
    _updated: bool = field(default=False, init=False)
    _done: bool = field(default=False, init=False)

    def on_step(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Why the policy scores exactly as before its first update, or None.

        Args:
            metrics: of the step, from before its update.

        Raises:
            TrainingError: the reference is not the starting policy, or the policy does not move.
        """
        reason = None
        if not self._started:
            self._check_first(step, metrics)
        elif self._updated and not self._done:
            self._done = True
            reason, is_error = self.diagnose() or (None, False)
            if is_error:
                raise TrainingError(f"step {step}: after the first update, {reason}")
        self._started = True
        self._updated = self._updated or metrics.get("learning_rate", 0.0) > 0.0
        return reason

    def _check_first(self, step: int, metrics: Mapping[str, float]) -> None:
        margin = metrics.get("rewards/margins", 0.0)
        drift = metrics.get("logps/chosen", 0.0) - metrics.get("ref_logps/chosen", 0.0)
        if abs(margin) > _START_TOLERANCE if self.exact else abs(drift) > _ROUNDED_NATS:
            raise TrainingError(
                f"step {step}: the reference is the starting policy, so the first margin must be 0, but it is "
                f"{margin:.4f}: policy and reference are scored differently; please report the model's architecture"
            )
        known, tolerance = self.start_loss(), _START_TOLERANCE if self.exact else _ROUNDED_LOSS
        if known is not None and not math.isclose(metrics["loss"], known, rel_tol=tolerance, abs_tol=1e-6):
            raise TrainingError(
                f"step {step}: the first loss must be {known:.4f} for this objective, but it is {metrics['loss']:.4f}"
            )


def _checksums(model: nn.Module) -> list[float]:
    parameters = [p.detach().double() for p in model.parameters() if p.requires_grad]
    sums = [p.sum() + p.abs().sum() for p in parameters]
    # The parts of a sharded parameter are on other ranks, which make the same call.
    return torch.stack([s.full_tensor() if isinstance(s, DTensor) else s for s in sums]).tolist()
