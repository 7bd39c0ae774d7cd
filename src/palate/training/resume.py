"""What a run can go on from."""

from __future__ import annotations

import json
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


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(read_json(checkpoint / "trainer_state.json")["global_step"])


def rewind(log: Path, step: int) -> list[dict[str, Any]]:
    """Take the rows of steps after `step` out of a JSON lines log, to be made again; returns the rest."""
    if not log.exists():
        return []
    rows = read_jsonl(log)
    kept = [row for row in rows if row["step"] <= step]
    if len(kept) < len(rows):
        write_text(log, "".join(json.dumps(row) + "\n" for row in kept))
    return kept
