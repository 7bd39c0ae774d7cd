"""`palate train`: from a config to a run directory; a config may also be a pipeline or a sweep of several runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from palate.charts.text import amount
from palate.cli.arguments import ConfigFile, Overrides, Words, config_and_overrides
from palate.cli.console import (
    is_main_process,
    print_done,
    print_json,
    print_note,
    print_progress,
    print_result,
    wants_json,
)
from palate.cli.models import with_model_paths
from palate.errors import Stopped

if TYPE_CHECKING:
    from palate.records import RewardFunction
    from palate.training.run import RunResult

SUMMARY = (
    *("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
    *("reward", "kl", "absolute_error"),
)
"""Final metrics that are printed, as far as the run has them."""


def command(words: Words = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Train a model from a config file; the run directory gets the model, metrics, sampled answers and a report.

    Example: palate train run.yaml --set learning_rate=1e-5
    """
    path, changes = config_and_overrides(words, config_file, overrides)
    changes = with_model_paths(path, changes)

    from palate.config.pipeline import is_pipeline
    from palate.config.sweep import is_sweep

    do = _sweep if is_sweep(path, changes) else _pipeline if is_pipeline(path, changes) else _run
    try:
        do(path, changes)
    finally:
        if "torch" in sys.modules:  # a wrong config fails before it is imported
            from palate.training.processes import leave_processes

            leave_processes()


def _run(path: str, changes: Sequence[str]) -> None:
    from palate.config.load import load_config

    loaded = load_config(path, changes)  # before torch is imported, so that a wrong config fails at once
    for line in loaded.notices:
        print_note(line)

    from palate.report.pages.run import write_run_report
    from palate.training.run import train

    try:
        done = train(loaded.config, notices=loaded.notices, judges=_judge_rewards)
    except Stopped:
        _report_run(Path(loaded.config.output_dir))
        raise
    if is_main_process():
        done = replace(done, report=write_run_report(done.output_dir))
    facts = {"status": done.status, "output_dir": done.output_dir, "report": done.report, "metrics": done.metrics}
    print_done(summary(done), facts)


def _sweep(path: str, changes: Sequence[str]) -> None:
    from palate.config.sweep import load_sweep

    sweep = load_sweep(path, changes)
    for line in sweep.notices:
        print_note(line)

    from palate.artifacts import read_json
    from palate.pipelines.sweep import run_sweep
    from palate.report.pages.sweep import write_sweep_report

    print_progress(f"sweep     {amount(len(sweep.points), 'run')} over {', '.join(sweep.keys)}")
    facts, report = sweep.output_dir / "sweep.json", sweep.output_dir / "report.html"
    try:
        done = run_sweep(sweep, judges=_judge_rewards, on_progress=print_progress, finished=_report_run)
    finally:
        if is_main_process() and facts.exists():
            write_sweep_report(sweep.output_dir)
    if wants_json():
        known = read_json(facts)
        points = [{**point, "output_dir": sweep.output_dir / str(point["name"])} for point in known["points"]]
        print_json({"status": known["status"], "output_dir": sweep.output_dir, "report": report, "points": points})
    else:
        runs = (f"run       {run}" for run in done)
        print_result("\n".join(["status    completed", *runs, f"report    {report}"]))


def _pipeline(path: str, changes: Sequence[str]) -> None:
    from palate.config.pipeline import load_pipeline

    pipeline = load_pipeline(path, changes)
    for line in pipeline.notices:
        print_note(line)

    from palate.pipelines.pipeline import run_pipeline
    from palate.report.pages.pipeline import is_pipeline_folder, write_pipeline_report

    try:
        done = run_pipeline(pipeline, judges=_judge_rewards, on_progress=print_progress, finished=_report_run)
        for run in done.runs:
            if not (run / "report.html").exists():  # killed after its last step
                _report_run(run)
    finally:
        if is_main_process() and is_pipeline_folder(pipeline.output_dir):
            write_pipeline_report(pipeline.output_dir)
    report = done.output_dir / "report.html"
    runs = (f"run       {run}" for run in done.runs)
    facts = {"status": "completed", "output_dir": done.output_dir, "runs": done.runs, "report": report}
    print_done(
        "\n".join(["status    completed", *runs, f"model     {done.model}", f"report    {report}"]),
        {**facts, "model": done.model, "drift": done.drift},
    )


def _judge_rewards(spec: str) -> RewardFunction:
    from palate.feedback.judges.load import judge_reward

    return judge_reward(spec)


def _report_run(run: Path) -> None:
    from palate.report.pages.run import write_run_report

    if is_main_process():
        write_run_report(run)


def summary(done: RunResult) -> str:
    """The final metrics of a run as lines."""
    rows = [("status", done.status), ("run directory", str(done.output_dir))]
    if done.report is not None:
        rows.append(("report", str(done.report)))
    for prefix, where in (("", "last step"), ("eval_", "held-out")):
        for key in SUMMARY:
            value = done.metrics.get(f"{prefix}{key}")
            if isinstance(value, int | float):
                rows.append((f"{where} {key}", f"{value:.4f}"))
    return "\n".join(f"{name:<29} {text}" for name, text in rows)
