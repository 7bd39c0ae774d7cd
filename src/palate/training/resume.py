"""What a run can go on from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import read_json, read_jsonl, verify_folder, write_text
from palate.errors import ArtifactError


def check_resumable(checkpoint: Path) -> None:
    """Refuse a checkpoint that is not there, not whole, or has no optimiser state: going on would end elsewhere.

    Raises:
        ArtifactError: names the checkpoint and what is wrong with it.
    """
    if not checkpoint.is_dir():
        raise ArtifactError(
            f"resume_from_checkpoint: {checkpoint}: no such checkpoint folder; "
            "true takes the newest complete one in output_dir"
        )
    problems = verify_folder(checkpoint)
    if problems:
        raise ArtifactError(
            f"resume_from_checkpoint: {checkpoint}: {'; '.join(problems)}; "
            "true takes the newest complete one in output_dir"
        )
    # One file, or with sharding a folder for each process.
    if not any("optimizer" in path.name or path.name.startswith("global_step") for path in checkpoint.iterdir()):
        raise ArtifactError(
            f"{checkpoint}: holds the model only (save_only_model: true) and cannot be resumed; name it as "
            "model_name_or_path (or adapter_name_or_path) of a new run instead"
        )


def rewind_metrics(log: Path, checkpoint: Path | None) -> list[dict[str, Any]]:
    """Take what will be logged again out of metrics.jsonl: all of it without a checkpoint; returns the rest.

    At the checkpoint's own step its evaluation stays only where the checkpoint knows of it: the one that ends a run is
    made after the last checkpoint.
    """
    if checkpoint is None:
        return _keep(log, lambda _row: False)
    state = read_json(checkpoint / "trainer_state.json")
    step = int(state["global_step"])
    evaluated = any("eval_loss" in row and row["step"] == step for row in state["log_history"])
    last = ("train", "eval") if evaluated else ("train",)
    return _keep(log, lambda row: row["step"] < step or (row["step"] == step and row["split"] in last))


def rewind_samples(log: Path, checkpoint: Path | None) -> None:
    """Take out of samples.jsonl what will be written again: the end's rows, without a checkpoint the start's too."""
    _keep(log, lambda row: checkpoint is not None and row["step"] == 0)


def _keep(log: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    rows = read_jsonl(log)
    kept = [row for row in rows if wanted(row)]
    if len(kept) < len(rows):
        write_text(log, "".join(json.dumps(row) + "\n" for row in kept))
    return kept
