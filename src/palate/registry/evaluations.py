"""The files that the loops and gates of a store evaluate with."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.store.loop_tables import Cycle, GateRun


def known_evaluations(session: Session) -> tuple[list[Path], list[Path]]:
    """The files that are there, and those that are gone.

    These are the prompts of gates, must-pass prompts, and data of benchmarks in local files.
    """
    named: dict[Path, None] = {}
    for config in session.scalars(select(Cycle.config).order_by(Cycle.id)):
        evaluate = (config.get("loop") or {}).get("evaluate") or {}
        data = [config["gate"].get("prompts"), evaluate.get("must_pass"), *(evaluate.get("benchmarks") or {}).values()]
        files = [file for entry in data for file in (entry if isinstance(entry, list) else [entry]) if file]
        named |= dict.fromkeys((Path(config["file"]).parent / file).resolve() for file in files)
    for verdict in session.scalars(select(GateRun.verdict).order_by(GateRun.id)):
        if verdict.get("prompts_file"):
            named[Path(verdict["prompts_file"])] = None
    return [path for path in named if path.is_file()], [path for path in named if not path.is_file()]
