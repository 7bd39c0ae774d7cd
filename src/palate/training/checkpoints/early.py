"""Early stopping that survives a kill: a resumed run counts again, from the evaluations that its checkpoint knows."""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments


class StopEarly(EarlyStoppingCallback):  # type: ignore[misc]
    """Stops after `patience` evaluations without a better one, whether or not they left a checkpoint.

    transformers' own would forget on resume how often the metric had failed to improve, and compares with the best
    checkpoint, which is not the best evaluation where evaluations are more frequent than checkpoints. A run that was
    killed after the evaluation that ended it makes no further step.
    """

    def __init__(self, patience: int) -> None:
        super().__init__(patience)
        self.early_stopping_patience_counter: int = 0
        self._best: float | None = None

    def check_metric_value(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metric_value: float
    ) -> None:
        del state, control
        better = self._best is None or (
            metric_value > self._best if args.greater_is_better else metric_value < self._best
        )
        if better:
            self._best = metric_value
        self.early_stopping_patience_counter = 0 if better else self.early_stopping_patience_counter + 1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        name = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
        self._best, self.early_stopping_patience_counter = None, 0
        for row in state.log_history:
            if name in row:
                self.check_metric_value(args, state, control, float(row[name]))
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
