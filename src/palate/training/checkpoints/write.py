"""Checkpoints that are sealed when they are complete, with the state of method and rollouts; resuming from them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from palate.artifacts import SEAL, read_json, seal_folder, write_errors, write_json
from palate.models.loading.save import has_renamed_weights, load_renamed, save_pretrained
from palate.models.upstream import changed
from palate.training.checkpoints.resume import follow_schedule
from palate.training.methods.base import Method
from palate.training.online.rollouts import StepRollouts

_METHOD_STATE = "method_state.json"


class CheckpointTrainer(Trainer):  # type: ignore[misc]
    """The part of `PalateTrainer` that writes checkpoints and resumes from them.

    Attributes:
        method: its state is part of a checkpoint.
        rollouts: its answers are part of a checkpoint; or None.
    """

    method: Method[Any]
    rollouts: StepRollouts | None
    _due_at_resume = (False, False)

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the last complete step, unless it exists or no step was made."""
        if self.state.global_step and not (self._checkpoint_folder() / SEAL).is_file():
            self._save_checkpoint(self.model, None)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write, seal, and only then delete older ones."""
        with (
            changed(self.args, save_total_limit=None),
            _unsealed(self._checkpoint_folder(), main=self.args.should_save) as folder,
        ):
            self.accelerator.wait_for_everyone()  # before another rank writes its part into the folder
            super()._save_checkpoint(model, trial)
            if self.method.state and self.args.should_save:
                write_json(folder / _METHOD_STATE, dict(self.method.state))
            if self.rollouts is not None:
                self.rollouts.save(folder, self.args.process_index, main=self.args.should_save)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal_folder(folder)
            rotate_checkpoints(
                output_dir=self.args.output_dir,
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _checkpoint_folder(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not self._load_renamed(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_renamed(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_renamed(self, checkpoint: str) -> bool:
        """Load weights whose names in the file Trainer does not know; sharded models have files of their own."""
        model, folder = self.model, Path(checkpoint)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not has_renamed_weights(model, folder):
            return False
        load_renamed(model, folder)
        return True

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        follow_schedule(self.optimizer, self.lr_scheduler)
        if (folder / _METHOD_STATE).exists():
            self.method.state = read_json(folder / _METHOD_STATE)
        if self.rollouts is not None:
            self.rollouts.restore(folder, self.args.process_index)

    def _init_training_state(self, max_steps: int, *args: Any) -> tuple[int, int]:
        found: tuple[int, int] = super()._init_training_state(max_steps, *args)
        self._due_at_resume = self._due_but_missed(steps_in_epoch=args[0])
        # The checkpoint has the intervals of its own run; use those of the config.
        self.state.compute_steps(self.args, max_steps)
        return found

    def _due_but_missed(self, *, steps_in_epoch: int) -> tuple[bool, bool]:
        """Whether an evaluation was due at the checkpoint's step but not made, and whether a checkpoint was due too.

        A signal stops a run before the evaluation. The intervals are those that the checkpoint was written with.
        """
        state, step = self.state, self.state.global_step
        ends_epoch = step % steps_in_epoch == 0
        evaluates = {"steps": step % max(state.eval_steps, 1) == 0, "epoch": ends_epoch}
        saves = {"steps": step % max(state.save_steps, 1) == 0 or step == state.max_steps, "epoch": ends_epoch}
        made = any("eval_loss" in row and row["step"] == step for row in state.log_history)
        missed = step > 0 and not made and evaluates.get(self.args.eval_strategy, False)
        return missed, missed and saves.get(self.args.save_strategy, False)

    def make_up_evaluation(self, checkpoint: str) -> None:
        """Before a resumed run's first step: make the evaluation that its checkpoint lacks; it may be the best one."""
        missed, save = self._due_at_resume
        if not missed:
            return
        self._load_rng_state(checkpoint)
        self.control.should_save = save
        values = self._evaluate(None, None)
        self._determine_best_metric(values, None)
        if self.control.should_save:
            self._save_checkpoint(self.model, None)
            self.control.should_save = False

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Model and tokenizer as transformers and PEFT load them, without pickled arguments."""
        if not self.args.should_save:
            return
        folder = output_dir if output_dir is not None else self.args.output_dir
        save_pretrained(self.accelerator.unwrap_model(self.model), str(folder), state_dict=state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)


@contextlib.contextmanager
def _unsealed(folder: Path, *, main: bool) -> Iterator[Path]:
    """A checkpoint folder to write into; the main process deletes an older one, and this one if anything fails."""
    try:
        if main and folder.exists():
            shutil.rmtree(folder)
        with write_errors(folder):
            yield folder
    except BaseException:  # an interrupt, too, would leave a checkpoint without a seal
        if main:
            shutil.rmtree(folder, ignore_errors=True)
        raise
