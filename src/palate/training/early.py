"""Early stopping that survives a kill: a resumed run counts again, from the evaluations that its checkpoint knows."""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments


class StopEarly(EarlyStoppingCallback):  # type: ignore[misc]
    """transformers' own, which would forget on resume how often the metric had failed to improve.

    A run that was killed after the evaluation that ended it makes no further step.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        name = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
        best: float | None = None
        failed = 0
        for value in (float(row[name]) for row in state.log_history if name in row):
            better = best is None or (value > best if args.greater_is_better else value < best)
            failed, best = (0, value) if better else (failed + 1, best)
        self.early_stopping_patience_counter = failed
        if failed >= self.early_stopping_patience:
            control.should_training_stop = True
