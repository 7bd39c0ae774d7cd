"""`palate train` on a file with `sweep:`: many runs, a table and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.console import note, result, result_json, say, speaks

if TYPE_CHECKING:
    from palate.config.sweep import Sweep


def train_sweep(path: str, changes: Sequence[str], *, as_json: bool) -> None:
    """Make the runs that are not there yet, and write the page of all."""
    from palate.config.sweep import load_sweep

    sweep = load_sweep(path, changes)
    for line in sweep.notices:
        note(line)

    from palate.feedback.judges import judge_reward
    from palate.pipelines.sweep import run_sweep
    from palate.report.pages.run import write_run_report
    from palate.report.pages.sweep import write_sweep_report

    def finished(run: Path) -> None:
        if speaks():
            write_run_report(run)

    say(f"sweep     {len(sweep.points)} runs over {', '.join(sweep.keys)}")
    try:
        done = run_sweep(sweep, judges=judge_reward, say=say, finished=finished)
    finally:
        if speaks() and (sweep.output_dir / "sweep.json").exists():
            write_sweep_report(sweep.output_dir)
    if as_json:
        result_json(_plain(sweep))
    else:
        lines = ["status    completed", *(f"run       {run}" for run in done.runs)]
        result("\n".join([*lines, f"report    {sweep.output_dir / 'report.html'}"]))


def _plain(sweep: Sweep) -> dict[str, object]:
    from palate.artifacts import read_json

    facts = read_json(sweep.output_dir / "sweep.json")
    return {
        "status": facts["status"],
        "output_dir": str(sweep.output_dir),
        "report": str(sweep.output_dir / "report.html"),
        "points": [{**point, "output_dir": str(sweep.output_dir / str(point["name"]))} for point in facts["points"]],
    }
