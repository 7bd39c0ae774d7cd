"""Checkpoints that are sealed when they are complete, with what the method and the rollouts carry."""

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
from palate.models.save import has_renamed_weights, load_renamed, save_pretrained
from palate.training.checkpoints.resume import follow_schedule
from palate.training.methods.base import Method
from palate.training.online.rollouts import Rollouts

_METHOD_STATE = "method_state.json"


class CheckpointTrainer(Trainer):  # type: ignore[misc]
    """What `PalateTrainer` does with files.

    Attributes:
        method: whose state is part of a checkpoint.
        rollouts: whose answers are part of a checkpoint, or None.
    """

    method: Method[Any]
    rollouts: Rollouts | None

    def save_checkpoint(self) -> None:
        """A checkpoint of the last complete step, unless there is one or no step was made."""
        if self.state.global_step and not (self._checkpoint_folder() / SEAL).is_file():
            self._save_checkpoint(self.model, None)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write, seal, and only then let go of older ones."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with _unsealed(self._checkpoint_folder(), main=self.args.should_save) as folder:
                self.accelerator.wait_for_everyone()  # before another rank writes its part into the folder
                super()._save_checkpoint(model, trial)
                state = self.method.state()
                if state and self.args.should_save:
                    write_json(folder / _METHOD_STATE, state)
                if self.rollouts is not None:
                    self.rollouts.save(folder, self.args.process_index, main=self.args.should_save)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal_folder(folder)
            rotate_checkpoints(
                output_dir=self.args.output_dir,
                save_total_limit=limit,
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
        """Load weights that Trainer would pass over because of their names; sharded models have files of their own."""
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
            self.method.restore(read_json(folder / _METHOD_STATE))
        if self.rollouts is not None:
            self.rollouts.restore(folder, self.args.process_index)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Model and tokenizer, loadable by transformers and PEFT as they are; no pickled arguments beside them."""
        if not self.args.should_save:
            return
        folder = output_dir if output_dir is not None else self.args.output_dir
        save_pretrained(self.accelerator.unwrap_model(self.model), str(folder), state_dict=state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)


@contextlib.contextmanager
def _unsealed(folder: Path, *, main: bool) -> Iterator[Path]:
    """A checkpoint folder to write into: the main process removes it before, and again if anything fails."""
    try:
        if main and folder.exists():
            shutil.rmtree(folder)
        with write_errors(folder):
            yield folder
    except BaseException:  # also an interrupt: what is left would be a checkpoint without a seal
        if main:
            shutil.rmtree(folder, ignore_errors=True)
        raise
