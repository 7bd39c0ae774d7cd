"""The trained model's files: written into a hidden folder, moved into the run directory when all are complete."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from palate.artifacts import write_errors
from palate.artifacts.files import sync_folder
from palate.training.trainer import PalateTrainer

# The same name on all ranks; `artifacts.remove_leftovers` deletes it if a kill left it there.
_SCRATCH = ".model.tmp-000000000000"


def publish(folder: Path, trainer: PalateTrainer) -> None:
    """Save model (or adapter) and tokenizer into the run directory.

    Every rank calls it (sharded weights are gathered); the main process writes. The files are moved out of a hidden
    folder when all are complete, so a full disk or a kill leaves no half model.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written to.
    """
    scratch = folder / _SCRATCH
    with write_errors(folder):
        if trainer.is_world_process_zero():
            shutil.rmtree(scratch, ignore_errors=True)
        try:
            trainer.save_model(str(scratch), _internal_call=True)
            trainer.accelerator.wait_for_everyone()
            if not trainer.is_world_process_zero():
                return
            (scratch / "README.md").unlink(missing_ok=True)  # PEFT's template; the run writes its own card
            for path in sorted(scratch.iterdir(), key=_weights_first):
                path.replace(folder / path.name)
            scratch.rmdir()
            sync_folder(folder)
        except BaseException:  # also after an interrupt the half model is deleted
            if trainer.is_world_process_zero():
                shutil.rmtree(scratch, ignore_errors=True)
            raise


def _weights_first(path: Path) -> Any:
    """config.json last: loaders look for it first, and then the weights must exist."""
    return (path.name == "config.json", path.name)
