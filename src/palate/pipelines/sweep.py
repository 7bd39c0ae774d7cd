"""Trains the runs of a sweep and collects their results; finished runs are kept, interrupted ones continue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import RunDir, plain, read_json, write_json
from palate.config.sweep import Point, Sweep
from palate.evaluation.accuracy.evaluate import evaluate, record_accuracy
from palate.models.cpu.allocator import give_back_memory
from palate.pipelines.pipeline import check_inputs, is_finished, make, writing
from palate.training.online.rewards import JudgeRewards
from palate.training.processes import wait_for_all

SWEEP = "sweep.json"

# Stages with held-out pairs.
_ON_PAIRS = ("dpo", "rm")


def run_sweep(
    sweep: Sweep,
    *,
    judges: JudgeRewards | None = None,
    on_progress: Callable[[str], None] = lambda _line: None,
    finished: Callable[[Path], None] = lambda _run: None,
) -> list[Path]:
    """Train every run that is not finished, and measure each on its held-out rows; returns the run directories.

    Args:
        judges: as for `training.run.train`.
        finished: called with the directory of each run after it is measured.

    Raises:
        ArtifactError: a finished run has another config; names the key. Or another process writes to the folder.
        Stopped: a signal ended a run; the same call continues it.
    """
    points = sweep.points
    check_inputs(points if sweep.overwrite else [point for point in points if not is_finished(point)])
    with writing(sweep.output_dir, "sweep", points, overwrite=sweep.overwrite) as main:
        for number, point in enumerate(points, 1):
            where = f"point {number} of {len(points)}"
            done = is_finished(point)
            wait_for_all()  # every process has checked before the main one writes
            if done:
                on_progress(f"{where}: finished already, {point.config.output_dir}")
            else:
                if main:
                    _write(sweep, "running")
                on_progress(f"{where}: {', '.join(f'{key} {value}' for key, value in point.values.items())}")
                make(point, judges, on_progress)
            if main:
                _measure(point, on_progress)
                finished(Path(point.config.output_dir))
                _write(sweep, "running")
                give_back_memory()
            wait_for_all()
        if main:
            _write(sweep, "completed")
        wait_for_all()
    return [Path(point.config.output_dir) for point in points]


def _measure(point: Point, on_progress: Callable[[str], None]) -> None:
    """Measure the point's accuracy and write it into its run, unless that is already done."""
    run, config = RunDir.open(point.config.output_dir), point.config
    held_out = config.eval_dataset is not None or config.val_size
    if run.accuracy.exists() or config.stage not in _ON_PAIRS or not held_out:
        return
    record_accuracy(run.path, evaluate(run.path, precision=config.precision, on_progress=on_progress))


def _write(sweep: Sweep, status: str) -> None:
    write_json(
        sweep.output_dir / SWEEP,
        {"schema": 1, "status": status, "keys": list(sweep.keys), "points": [_facts(point) for point in sweep.points]},
    )


def _facts(point: Point) -> dict[str, Any]:
    """A point's entry in sweep.json: its values and its results so far."""
    run = RunDir(point.config.output_dir)
    facts: Mapping[str, Any] = run.read() if run.run_json.exists() else {}
    accuracy = read_json(run.accuracy) if run.accuracy.exists() else {}
    return {
        "name": point.name,
        "values": plain(point.values),
        "status": facts.get("status", "not begun"),
        "metrics": facts.get("final_metrics", {}),
        "health": [found.get("name") for found in facts.get("health", ())],
        # The values of single pairs stay in the run's own file.
        "accuracy": {key: value for key, value in accuracy.items() if key != "items"},
    }
