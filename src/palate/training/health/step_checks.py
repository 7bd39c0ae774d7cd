"""What goes wrong in preference training, seen while it happens, each with its name and its remedy."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from palate.config.stages.health import DEFAULT_LIMITS, HealthFields
from palate.errors import TrainingError
from palate.training.health.degradation import Sign

_START_TOLERANCE = 1e-2
# Values that were scored in other batches and in half precision: up to a nat of an answer's few hundred is rounding.
_ROUNDED_NATS = 2.0
_ROUNDED_LOSS = 0.25
_WINDOW = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was seen.

    Attributes:
        step: when.
        name: a stable name (`loss_spike`, `chosen_falls` …).
        severity: `warning` or `error`.
        message: what was seen, with numbers.
        remedy: what to do about it.
    """

    step: int
    name: str
    severity: str
    message: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Health:
    """Looks on at every step's metrics.

    Args:
        starts_equal: the reference is the policy as it starts and nothing random is on, so the first margins are 0.
        start_loss: the known loss of the first step's groups, or None; asked once.
        fresh: False for a resumed run, whose first step is not the start.
        diagnose_still: called once, after the first update: says what did not move as it should, in one line, and
            whether that is an error; None where all is well.
        tell: shows a finding to the user.
        exact: False where reference values were stored in half precision, so that the first Δ is 0 up to rounding.
        limits: what is too much.
    """

    def __init__(
        self,
        *,
        starts_equal: bool,
        start_loss: Callable[[], float | None],
        fresh: bool,
        diagnose_still: Callable[[], tuple[str, bool] | None],
        tell: Callable[[Finding], None],
        exact: bool = True,
        limits: HealthFields = DEFAULT_LIMITS,
    ) -> None:
        self.findings: list[Finding] = []
        self._starts_equal = starts_equal
        self._start_loss = start_loss
        self._fresh = fresh
        self._diagnose_still = diagnose_still
        self._tell = tell
        self._exact = exact
        self._limits = limits
        self._steps_seen = 0
        self._updated = False
        self._moved = not (starts_equal and fresh)
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._drift: deque[float] = deque(maxlen=_WINDOW)

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Check one step. `metrics` were computed before the step's update.

        Raises:
            TrainingError: the reference is not the starting policy, or the policy does not move.
        """
        if self._steps_seen == 0 and self._fresh and self._starts_equal:
            self._check_start(step, metrics)
        elif not self._moved and self._updated:
            self._check_moved(step)
        self._updated = self._updated or metrics.get("learning_rate", 0.0) > 0.0
        self._check_spike(step, metrics)
        self._check_chosen(step, metrics)
        self._check_rewarded(step, metrics)
        self._steps_seen += 1

    def _check_start(self, step: int, metrics: Mapping[str, float]) -> None:
        margin = metrics.get("rewards/margins", 0.0)
        drift = metrics.get("logps/chosen", 0.0) - metrics.get("ref_logps/chosen", 0.0)
        far = abs(margin) > _START_TOLERANCE if self._exact else abs(drift) > _ROUNDED_NATS
        if far:
            raise TrainingError(
                f"step {step}: the reference is the starting policy, so the first margin must be 0, but it is "
                f"{margin:.4f}: policy and reference are scored differently; please report the model's architecture"
            )
        known, within = self._start_loss(), _START_TOLERANCE if self._exact else _ROUNDED_LOSS
        if known is not None and not math.isclose(metrics["loss"], known, rel_tol=within, abs_tol=1e-6):
            raise TrainingError(
                f"step {step}: the first loss must be {known:.4f} for this objective, but it is {metrics['loss']:.4f}"
            )

    def _check_moved(self, step: int) -> None:
        self._moved = True
        found = self._diagnose_still()
        if found is None:
            return
        reason, is_error = found
        if is_error:
            raise TrainingError(f"step {step}: after the first update, {reason}")
        self._find(
            step,
            "invisible_update",
            f"the policy scores exactly as before its first update: {reason}",
            "a higher learning_rate (LoRA usually wants 10 to 100 times that of full fine-tuning), or precision: fp32",
        )

    def _check_spike(self, step: int, metrics: Mapping[str, float]) -> None:
        seen, loss = self._losses, metrics["loss"]
        if len(seen) == _WINDOW:
            centre, spread = statistics.median(seen), statistics.pstdev(seen)
            if loss > centre + self._limits.health_loss_spike * spread and loss > 1.5 * abs(centre) + 0.1:
                beta = "pref_beta: 0.2, " if "ref_logps/chosen" in metrics else ""  # a key of losses with a reference
                self._find(
                    step,
                    "loss_spike",
                    f"loss {loss:.3f} after a median of {centre:.3f} over {_WINDOW} steps",
                    f"learning_rate: 1e-7, {beta}max_grad_norm: 0.5; look at the rows of this step",
                )
        seen.append(loss)

    def _check_chosen(self, step: int, metrics: Mapping[str, float]) -> None:
        if "ref_logps/chosen" not in metrics:
            return
        self._drift.append(metrics["logps/chosen"] - metrics["ref_logps/chosen"])
        if len(self._drift) < _WINDOW or self._has("chosen_falls"):
            return
        drift = statistics.fmean(self._drift)
        if drift < -self._limits.health_max_chosen_fall:
            self._find(
                step,
                "chosen_falls",
                f"log-probability of the chosen answers is {-drift:.1f} nats below the reference over {_WINDOW} steps: "
                "the margin grows because rejected falls faster",
                "pref_ftx: 0.1 (an SFT term), pref_loss: dpop, a higher pref_beta, or fewer steps",
            )

    def _check_rewarded(self, step: int, metrics: Mapping[str, float]) -> None:
        if metrics.get("unrewarded") == 1.0 and not self._has("no_reward"):
            self._find(
                step,
                "no_reward",
                "every reward gave None for every answer of a step: nothing is learned from it",
                "a reward that scores these rows, or leave them out of the dataset",
            )

    def notice(self, step: int, sign: Sign) -> None:
        """A sign that an evaluation showed; each is told once."""
        if not self._has(sign.name):
            self._find(step, sign.name, sign.message, sign.remedy)

    def _has(self, name: str) -> bool:
        return any(finding.name == name for finding in self.findings)

    def _find(self, step: int, name: str, message: str, remedy: str) -> None:
        finding = Finding(step, name, "warning", message, remedy)
        self.findings.append(finding)
        self._tell(finding)
