"""A sweep's runs, and what each came to: finished ones are not run again, interrupted ones go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.artifacts import RunDir, plain, read_json, remove_folder, remove_leftovers, write_json
from palate.config.pipeline import PlannedRun
from palate.config.sweep import Point, Sweep
from palate.errors import ArtifactError
from palate.evaluation.evaluate import evaluate, record_accuracy
from palate.models.cpu.allocator import give_back_memory
from palate.models.precision import default_device
from palate.pipelines.inputs import check_inputs
from palate.pipelines.pipeline import is_finished, make
from palate.training.online.rewards import JudgeRewards
from palate.training.setup.environment import is_main_process, join_processes, wait_for_all

SWEEP = "sweep.json"

# Stages whose held-out rows are pairs.
_ON_PAIRS = ("dpo", "rm")


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep left behind.

    Attributes:
        output_dir: of the whole; `sweep.json` in it has all of this.
        runs: the run directories, in the order of the points.
    """

    output_dir: Path
    runs: list[Path]


def run_sweep(
    sweep: Sweep,
    *,
    judges: JudgeRewards | None = None,
    say: Callable[[str], None] = lambda _line: None,
    finished: Callable[[Path], None] = lambda _run: None,
) -> SweepResult:
    """Make every run that is not there yet, and measure each on what it held out.

    Args:
        judges: as `training.run.train` takes it.
        say: lines for a person.
        finished: called with the directory of each run once it is there and measured.

    Raises:
        ArtifactError: a finished run was made by another config; names the key.
        Stopped: a signal ended a run; the same call goes on with it.
    """
    folder, main = sweep.output_dir, is_main_process()
    join_processes(default_device(), sweep.points[0].config.ddp_timeout)
    if (folder / "run.json").exists():
        raise ArtifactError(f"{folder}: is a run, not a sweep; choose another output_dir")
    if folder.is_dir() and main:
        remove_leftovers(folder)
    if sweep.overwrite and main:
        _remove(sweep)
    wait_for_all()
    runs = [PlannedRun(point.name, point.config) for point in sweep.points]
    check_inputs([planned for planned in runs if not is_finished(planned)])
    for number, (point, planned) in enumerate(zip(sweep.points, runs, strict=True), 1):
        where = f"point {number} of {len(sweep.points)}"
        done = is_finished(planned)
        wait_for_all()  # each has looked before the main process writes
        if done:
            say(f"{where}: finished already, {point.config.output_dir}")
        else:
            if main:
                _write(sweep, "running")
            say(f"{where}: {', '.join(f'{key} {value}' for key, value in point.values.items())}")
            make(planned, judges, say)
        if main:
            _measure(point, say)
            finished(Path(point.config.output_dir))
            give_back_memory()
        wait_for_all()
    if main:
        _write(sweep, "completed")
    wait_for_all()
    return SweepResult(folder, [Path(point.config.output_dir) for point in sweep.points])


def _measure(point: Point, say: Callable[[str], None]) -> None:
    """The point's accuracy with its interval, once."""
    run, config = RunDir.open(point.config.output_dir), point.config
    held_out = config.eval_dataset is not None or config.val_size
    if run.accuracy.exists() or config.stage not in _ON_PAIRS or not held_out:
        return
    record_accuracy(run.path, evaluate(run.path, precision=config.precision, say=say))


def _remove(sweep: Sweep) -> None:
    """Begin anew: the runs of this sweep, and no folder that is not one."""
    (sweep.output_dir / SWEEP).unlink(missing_ok=True)
    for point in sweep.points:
        if (Path(point.config.output_dir) / "run.json").exists():
            remove_folder(Path(point.config.output_dir))


def _write(sweep: Sweep, status: str) -> None:
    write_json(
        sweep.output_dir / SWEEP,
        {"schema": 1, "status": status, "keys": list(sweep.keys), "points": [_facts(point) for point in sweep.points]},
    )


def _facts(point: Point) -> dict[str, Any]:
    """What a point was, and what it came to as far as it is there; its folder relative to the sweep's."""
    run = RunDir(point.config.output_dir)
    facts: Mapping[str, Any] = run.read() if run.run_json.exists() else {}
    accuracy = read_json(run.accuracy) if run.accuracy.exists() else {}
    return {
        "name": point.name,
        "values": plain(point.values),
        "status": facts.get("status", "not begun"),
        "metrics": facts.get("final_metrics", {}),
        "health": [found.get("name") for found in facts.get("health", ())],
        "accuracy": accuracy,
    }
