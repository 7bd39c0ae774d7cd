"""The files that the loops and gates of a store evaluate with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.data.sources.readers import file_type
from palate.store.loop_tables import Cycle, GateRun


def data_files(data: Iterable[str | list[str] | None], folder: Path) -> list[Path]:
    """The files of evaluation data as a loop's config names it, relative to a folder; null is data of the hub.

    Of a folder, its data files; what does not exist stays as it is named.
    """
    found: list[Path] = []
    for name in (name for entry in data for name in ([entry] if isinstance(entry, str) else entry or ())):
        path = folder / name
        inside = (file for file in sorted(path.rglob("*")) if file.is_file() and file_type(file) is not None)
        found += inside if path.is_dir() else [path]
    return found


def known_evaluations(session: Session) -> tuple[list[Path], list[Path]]:
    """The files that are there, and those that are gone.

    These are the prompts of gates, must-pass prompts, and data of benchmarks in local files.
    """
    named: dict[Path, None] = {}
    for config in session.scalars(select(Cycle.config).order_by(Cycle.id)):
        folder, evaluate = Path(config["file"]).parent, (config.get("loop") or {}).get("evaluate") or {}
        prompts = config["gate"].get("prompts"), evaluate.get("must_pass")
        files = data_files([*prompts, *(evaluate.get("benchmarks") or {}).values()], folder)
        named |= dict.fromkeys(path.resolve() for path in files)
    for verdict in session.scalars(select(GateRun.verdict).order_by(GateRun.id)):
        one = verdict.get("prompts_file")  # of verdicts before several files were recorded
        named |= dict.fromkeys(map(Path, verdict.get("prompts_files") or ([one] if one else [])))
    return [path for path in named if path.is_file()], [path for path in named if not path.is_file()]
