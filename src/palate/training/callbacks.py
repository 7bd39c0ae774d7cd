"""Callbacks: metrics of each step, early stopping, signals, and the lines on the terminal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from palate.artifacts import now
from palate.errors import BatchStop, Interrupted
from palate.progress import Pace, Pass, clock, console, print_line
from palate.training.processes import highest_over_ranks, process_count
from palate.training.trainer import PalateTrainer


class MetricsLog(TrainerCallback):  # type: ignore[misc]
    """Computes each step's metrics before anything reads them, and writes rows to metrics.jsonl, with the same names.

    Trackers always get the last step's metrics.

    Args:
        trainer: its metrics are written.
        write: takes a row; None on all but the main process.
    """

    def __init__(self, trainer: PalateTrainer, write: Callable[[dict[str, Any]], None] | None) -> None:
        self._trainer = trainer
        self._write = write

    def on_step_end(self, _args: object, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        metrics = self._trainer.finish_step()
        if self._write is not None:
            self._write({"step": state.global_step, "split": "train", "epoch": state.epoch, **metrics})
        # transformers logs every `logging_steps` steps, and would leave out a last step in between. A run may also end
        # at any evaluation (early stopping, health).
        last = state.global_step >= state.max_steps or control.should_training_stop
        control.should_log = control.should_log or control.should_evaluate or last

    def on_evaluate(self, _args: object, state: TrainerState, _control: object, **given: Any) -> None:
        if self._write is not None:
            metrics: Mapping[str, float] = given["metrics"]
            means = {name.removeprefix("eval_"): value for name, value in metrics.items() if name != "epoch"}
            row = {"step": state.global_step, "split": "eval", "epoch": state.epoch}
            self._write({**row, **means, **self._trainer.evaluated})


class StartRecord(TrainerCallback):  # type: ignore[misc]
    """Records when the steps began, from which step, and how many there are: the pages show from it what is left."""

    def __init__(self, update: Callable[..., object]) -> None:
        self._update = update

    def on_train_begin(self, _args: object, state: TrainerState, _control: object, **_: Any) -> None:
        self._update(progress={"since": now(), "step": state.global_step, "steps": state.max_steps})


class MissedEvaluation(TrainerCallback):  # type: ignore[misc]
    """Makes the evaluation that the checkpoint of a resumed run lacks; must be the last callback."""

    def __init__(self, make_up: Callable[[], None]) -> None:
        self._make_up = make_up

    def on_train_begin(self, _args: object, _state: object, control: TrainerControl, **_: Any) -> None:
        if not control.should_training_stop:
            self._make_up()


class StopEarly(EarlyStoppingCallback):  # type: ignore[misc]
    """Stops after `patience` evaluations without a better one, with or without a checkpoint.

    transformers' own forgets the count on resume, and compares with the best checkpoint instead of the best evaluation.
    Here a resumed run counts again, from the evaluations that its checkpoint knows; if these end it, it makes no step.
    """

    def __init__(self, patience: int) -> None:
        super().__init__(patience)
        self.early_stopping_patience_counter: int = 0
        self._best: float | None = None

    def check_metric_value(
        self, args: TrainingArguments, _state: object, _control: object, metric_value: float
    ) -> None:
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


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """The first Ctrl-C or SIGTERM stops the run after a batch, so that it can be resumed; a second one stops at once.

    `BatchStop` is raised between two batches of a step, and in the passes before the first and after the last step. An
    evaluation between steps is finished first. Several processes agree on the flag at the end of each step, so that
    all stop at the same step.

    Attributes:
        stopped_by: number of the signal that stopped the run at the end of a step, else 0.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._caught = 0
        self._previous: dict[int, Any] = {}
        self._in_steps = False
        self._several = process_count() > 1
        self.stopped_by = 0

    def install(self) -> None:
        """Handle the signals until `restore`."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._catch)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._caught:
            self.restore()
            raise Interrupted(number)
        self._caught = number
        if os.environ.get("RANK", "0") == "0":
            print("\npalate: stopping after this batch; once more to stop at once", file=sys.stderr)
        if not self._in_steps and not self._several:
            raise BatchStop(number)

    def between_batches(self) -> None:
        """Called between two batches of a step.

        Raises:
            BatchStop: a signal was caught, and no other process waits for this one.
        """
        if self._caught and not self._several:
            raise BatchStop(self._caught)

    def on_train_begin(self, _args: object, _state: object, _control: object, **_: Any) -> None:
        self._in_steps = True

    def on_train_end(self, _args: object, _state: object, _control: object, **_: Any) -> None:
        self._in_steps = False

    def on_step_end(self, _args: object, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._stop(state, control)
        if self.stopped_by and state.global_step < state.max_steps:
            control.should_evaluate = False
            control.should_log = True

    def on_epoch_end(self, _args: object, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """transformers also calls it when a run stops within an epoch."""
        if self.stopped_by and state.global_step < state.max_steps:
            control.should_evaluate = control.should_save = False

    def on_evaluate(self, _args: object, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._in_steps:
            self._stop(state, control)

    def _stop(self, state: TrainerState, control: TrainerControl) -> None:
        caught = int(highest_over_ranks(torch.tensor(self._caught, device=self._device)))
        if caught:
            self.stopped_by = caught
            # A run at its last step is evaluated and saved as usual.
            control.should_save = control.should_save or state.global_step < state.max_steps
            control.should_training_stop = True

    def restore(self) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


class TerminalProgress(TrainerCallback):  # type: ignore[misc]
    """A progress bar and a line of metrics at each log, on stderr; without a terminal only lines."""

    _shown = ("loss", "reward", "kl", "rewards/accuracies", "rewards/margins", "grad_norm", "learning_rate")
    _short: Mapping[str, str] = {"rewards/accuracies": "accuracy", "rewards/margins": "margin", "learning_rate": "lr"}

    def __init__(self) -> None:
        self._pass: Pass | None = None

    def on_train_begin(self, _args: object, state: TrainerState, _control: object, **_: Any) -> None:
        self._pace = Pace()
        if console.is_terminal:
            self._pass = Pass("training", state.max_steps, done=state.global_step)

    def on_step_end(self, _args: object, state: TrainerState, _control: object, **_: Any) -> None:
        self._pace.reach(state.global_step)
        if self._pass is not None:
            self._pass.reach(state.global_step)

    def on_log(self, _args: object, state: TrainerState, _control: object, **given: Any) -> None:
        logs: Mapping[str, float] = given["logs"]
        if not state.is_world_process_zero or "train_runtime" in logs:
            return
        prefix = "eval_" if "eval_loss" in logs else ""
        parts = [
            f"{self._short.get(name, name)} {_number(name, logs[prefix + name])}"
            for name in self._shown
            if prefix + name in logs
        ]
        if not parts:
            return
        kind = "eval " if prefix else "train"
        left = None if self._pass is not None else self._pace.left(state.max_steps)
        if left is not None:
            parts.append(f"left {clock(left)}")
        print_line(f"{kind} {state.global_step}/{state.max_steps}  " + "  ".join(parts))

    def close(self) -> None:
        """Remove the bar."""
        if self._pass is not None:
            self._pass.close()
            self._pass = None

    def on_train_end(self, _args: object, _state: object, _control: object, **_: Any) -> None:
        self.close()


def _number(name: str, value: float) -> str:
    if name == "rewards/accuracies":
        return f"{100 * value:.1f}%"
    return f"{value:.2e}" if name == "learning_rate" else f"{value:.4f}"
