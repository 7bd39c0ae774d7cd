"""What many cells do: train one run with palate, and keep what its run directory says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import RunDir, read_jsonl
from palate.config.load import config_from_values
from palate.training.run import train

# Cells are short, and what a run keeps beside its model would take longer than the run.
QUIET: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "logging_steps": 1}


def train_run(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train in this process and return what the run says of itself.

    Args:
        values: keys of a config but for output_dir; they win over `QUIET`.
        folder: of the run.

    Returns:
        loss, metrics (the last step's and evaluation's), timings in seconds, peak memory in bytes.
    """
    config = config_from_values({**QUIET, **values, "output_dir": str(folder)}, origin=folder.name).config
    result = train(config)
    facts = RunDir(folder).read()
    return {
        "metrics": result.metrics,
        "timings": facts.get("timings", {}),
        "peak_memory": facts.get("peak_memory_bytes"),
        "reference": (facts.get("reference") or {}).get("kind"),
    }


def logged(folder: Path, split: str, *names: str) -> list[dict[str, float]]:
    """Rows of metrics.jsonl of one split, with the step and the named metrics."""
    rows = [row for row in read_jsonl(RunDir(folder).metrics) if row["split"] == split]
    return [{"step": row["step"], **{name: row[name] for name in names if name in row}} for row in rows]
