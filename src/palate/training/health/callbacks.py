"""Health checks as a Trainer callback: at every step and at every evaluation."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from palate.artifacts import RunDir
from palate.config.stages.health import DEFAULT_LIMITS, HealthFields
from palate.models.reference.precomputed import PrecomputedReference
from palate.training.health.evaluation import AnswerEvaluation, length_correlation
from palate.training.health.metrics import WINDOW, HealthFinding, exceeded
from palate.training.health.plateau import PlateauCheck, StartCheck
from palate.training.meters import HeldOutRow
from palate.training.processes import sum_over_ranks
from palate.training.setup.limits import health_prompts
from palate.training.setup.session import Session
from palate.training.sharded import is_sharded
from palate.training.trainer import PalateTrainer

# Training margins over which the present one is averaged.
_MARGINS = 10
# A smaller rise of held-out accuracy is no gain; above the second there is little left to gain.
_GAIN, _GOOD_ACCURACY = 0.02, 0.9


class HealthCheck(TrainerCallback):  # type: ignore[misc]
    """Compares the values of each step and evaluation with the table in `health.metrics`.

    Args:
        trainer: its metrics are checked.
        limits: thresholds, and whether a finding at an evaluation ends the run.
        report: shows a finding to the user.
        start: checks the first steps, or None.
        answers: sampled at evaluations, or None.
        at_evaluations: whether evaluations are checked.

    Attributes:
        findings: all so far.
        must_stop: an evaluation had a finding, and the config ends the run then; equal on all ranks.
    """

    def __init__(
        self,
        trainer: PalateTrainer,
        limits: HealthFields,
        report: Callable[[HealthFinding], None],
        *,
        start: StartCheck | None = None,
        answers: AnswerEvaluation | None = None,
        at_evaluations: bool = True,
    ) -> None:
        self.findings: list[HealthFinding] = []
        self.must_stop = False
        self._trainer = trainer
        self._limits = limits
        self._report: Callable[[HealthFinding], None] | None = report
        self._start = start
        self._answers = answers
        self._at_evaluations = at_evaluations
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._drifts: deque[float] = deque(maxlen=WINDOW)
        self._margins: deque[float] = deque(maxlen=_MARGINS)
        # Before the first step policy and reference agree: accuracy is chance, the margin 0.
        self._best_accuracy, self._margin_at_best = 0.5, 0.0

    def begin(self, folder: RunDir, logged: Sequence[Mapping[str, Any]], *, fresh: bool) -> None:
        """Before the first step of this process.

        Args:
            folder: the run directory.
            logged: rows of metrics.jsonl before the checkpoint that is resumed from: their findings are kept, and not
                printed again.
            fresh: False for a resumed run.
        """
        if self._answers is not None:
            self._answers.begin(folder, fresh=fresh)
        report, self._report = self._report, None
        for row in logged:
            # A value that was not finite is null in the log.
            metrics = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
            check = self.check_step if row["split"] == "train" else self.check_evaluation
            check(int(row["step"]), metrics)
        self._report = report
        self._agree()

    def close(self) -> None:
        """The run is over, however it ended."""
        if self._answers is not None:
            self._answers.close()

    def measure(self, rows: Sequence[HeldOutRow]) -> dict[str, float]:
        """What health adds to the metrics of an evaluation.

        Args:
            rows: held-out rows of all ranks.
        """
        if not self._at_evaluations:
            return {}
        # A loss that compares the pairs of a step with each other is left out.
        correlation = None if self._trainer.method.traits.couples_batch else length_correlation(rows)
        return {
            **({} if correlation is None else {"health/length_correlation": correlation}),
            **({} if self._answers is None else self._answers.measure().to_log()),
        }

    # ---- when

    def on_train_begin(self, _args: object, _state: object, control: TrainerControl, **_: Any) -> None:
        """A run that is resumed from the checkpoint at which it was to end makes no further step."""
        control.should_training_stop = control.should_training_stop or self.must_stop

    def on_step_end(self, _args: object, state: TrainerState, _control: object, **_: Any) -> None:
        self.check_step(state.global_step, self._trainer.step_metrics)

    def on_evaluate(self, _args: object, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        if self._trainer.is_world_process_zero():  # only the main process samples, and knows a resumed run's past
            values = {name.removeprefix("eval_"): value for name, value in given["metrics"].items()}
            self.check_evaluation(state.global_step, values)
        self._agree()
        control.should_training_stop = control.should_training_stop or self.must_stop

    def _agree(self) -> None:
        """The main process decides, and all stop together."""
        stops = torch.tensor(float(self.must_stop), device=self._trainer.args.device)
        self.must_stop = bool(sum_over_ranks(stops) > 0)

    # ---- what

    def check_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Check one step. `metrics` are from before the step's update.

        Raises:
            TrainingError: the reference is not the starting policy, or the policy does not move.
        """
        unmoved = self._start.on_step(step, metrics) if self._start is not None else None
        if unmoved is not None:
            self._add(
                step,
                "invisible_update",
                f"the policy scores exactly as before its first update: {unmoved}",
                "a higher learning_rate (LoRA usually wants 10 to 100 times that of full fine-tuning), or precision: "
                "fp32",
            )
        self._check(step, {**metrics, **self._step_values(metrics)}, {})
        if "rewards/margins" in metrics:
            self._margins.append(metrics["rewards/margins"])

    def check_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        if not self._at_evaluations:
            return
        baseline = self._answers.baseline if self._answers is not None else None
        reference = {"stalled_margin": self._margin_at_best, **(baseline.to_log() if baseline is not None else {})}
        values = {**metrics, **self._stalled(metrics.get("rewards/accuracies"))}
        if self._check(step, values, reference) and self._limits.health == "stop":
            self.must_stop = True

    def _step_values(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """What the table compares at a step: the loss against that of the last steps, and the mean fall of chosen."""
        found = {"step_unrewarded": metrics["unrewarded"]} if "unrewarded" in metrics else {}
        loss = metrics["loss"]
        if len(self._losses) == WINDOW:
            median, spread = statistics.median(self._losses), statistics.pstdev(self._losses)
            if loss > 1.5 * abs(median) + 0.1:
                found |= {"loss_median": median, "loss_deviations": (loss - median) / max(spread, 1e-12)}
        self._losses.append(loss)
        if "ref_logps/chosen" in metrics:
            self._drifts.append(metrics["logps/chosen"] - metrics["ref_logps/chosen"])
            if len(self._drifts) == WINDOW:
                found["chosen_fall"] = -statistics.fmean(self._drifts)
        return found

    def _stalled(self, accuracy: float | None) -> dict[str, float]:
        """The training margin, where held-out accuracy has not risen with it."""
        if accuracy is None:
            return {}
        margin = sum(self._margins) / max(1, len(self._margins))
        if accuracy >= self._best_accuracy + _GAIN:
            self._best_accuracy, self._margin_at_best = accuracy, margin
            return {}
        best = {"accuracy": accuracy, "best_accuracy": self._best_accuracy}
        return {"stalled_margin": margin, **best} if accuracy < _GOOD_ACCURACY else {}

    def _check(self, step: int, values: Mapping[str, float], reference: Mapping[str, float]) -> bool:
        """Report what exceeds its limit and whether anything did."""
        found = list(exceeded(values, reference, self._limits))
        for rule, message, remedy in found:
            if not rule.once or all(finding.name != rule.finding for finding in self.findings):
                self._add(step, rule.finding, message, remedy)
        return bool(found)

    def _add(self, step: int, name: str, message: str, remedy: str) -> None:
        finding = HealthFinding(step, name, "warning", message, remedy)
        self.findings.append(finding)
        if self._report is not None:
            self._report(finding)


def build_health_check(session: Session, trainer: PalateTrainer, *, fresh: bool) -> HealthCheck:
    """The checks that a run's config asks for."""
    config, reference = session.config, session.reference
    start = None
    if session.starts_equal and fresh and reference is not None:
        batch = session.policy.collate(trainer.groups_of_run()[:1]).to(session.device)
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        start = StartCheck(
            PlateauCheck(session.policy.model, reference, batch, session.precision, sharded=sharded).diagnose,
            lambda: loss_at_start(trainer),
            exact=not isinstance(reference, PrecomputedReference) or session.precision.autocast is None,
        )
    limits = config if isinstance(config, HealthFields) else DEFAULT_LIMITS
    at_evaluations = limits is not DEFAULT_LIMITS and limits.health != "off" and bool(session.data.evaluation)
    return HealthCheck(
        trainer,
        limits,
        lambda finding: session.log.info(f"warning: {finding.message}; try {finding.remedy}", keep=False, notice=True),
        start=start,
        answers=_answers(session, limits, trainer) if at_evaluations else None,
        at_evaluations=at_evaluations,
    )


def _answers(session: Session, limits: HealthFields, trainer: PalateTrainer) -> AnswerEvaluation | None:
    """Only the main process samples; the others take part in the held-out pairs."""
    prompts = health_prompts(limits, session.config.cutoff_len, session.template, session.data.prompts)
    if not prompts:
        return None
    if is_sharded(session.config):
        session.log.info("health: answers are not sampled from a sharded model; only held-out pairs are checked")
        return None
    if session.reference is None:
        session.log.info(f"health: {session.method.traits.name} has no reference, so no KL is reported")
    if not trainer.is_world_process_zero():
        return None
    return AnswerEvaluation(
        policy=session.policy.model,
        reference=session.reference,
        prompts=prompts,
        stop_ids=session.template.stop_ids,
        max_new_tokens=limits.health_max_new_tokens,
        seed=session.config.seed,
        precision=session.precision,
        device=session.device,
        split=trainer.split,
        report=session.log.info,
    )


def loss_at_start(trainer: PalateTrainer) -> float | None:
    """The last step's loss if policy and reference are equal, over all ranks; None where it is not known.

    Every rank calls it at the same time.
    """
    traits = trainer.method.traits
    known = [(traits.start_loss(len(group.completions)), traits.weight(group)) for group in trainer.step_groups]
    total = sum(weight * (loss or 0.0) for loss, weight in known)
    unknown = float(sum(loss is None for loss, _ in known))
    sums = torch.tensor([total, sum(weight for _, weight in known), unknown], dtype=torch.float64)
    total, weights, unknown = sum_over_ranks(sums.to(trainer.args.device)).tolist()
    return None if unknown or not weights else total / weights
