"""`palate train`: from a config to a run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.arguments import AsJson, ConfigFile, Overrides, Words, config_and_overrides
from palate.cli.console import note, result, result_json, say, speaks
from palate.cli.sweep import train_sweep
from palate.errors import Stopped

if TYPE_CHECKING:
    from palate.training.run import RunResult

# What the summary shows of the final metrics, where they are there.
SUMMARY = (
    *("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
    *("reward", "kl", "absolute_error"),
)


def command(
    words: Words = None, config_file: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Train a model as a config says, and leave a run directory with model, metrics, samples and report."""
    path, changes = config_and_overrides(words, config_file, overrides)

    from palate.config.load import load_config
    from palate.config.pipeline import is_pipeline
    from palate.config.sweep import is_sweep

    if is_sweep(path, changes):
        train_sweep(path, changes, as_json=as_json)
        return
    if is_pipeline(path, changes):
        _pipeline(path, changes, as_json=as_json)
        return
    loaded = load_config(path, changes)  # a wrong config is said before torch is imported
    for line in loaded.notices:
        note(line)

    from palate.feedback.judges import judge_reward
    from palate.report.pages.run import write_run_report
    from palate.training.run import train

    try:
        done = train(loaded.config, notices=loaded.notices, judges=judge_reward)
    except Stopped:
        if speaks():
            write_run_report(loaded.config.output_dir)
        raise
    if speaks():
        done = replace(done, report=write_run_report(done.output_dir))
    if as_json:
        result_json(
            {
                "status": done.status,
                "output_dir": str(done.output_dir),
                "report": None if done.report is None else str(done.report),
                "metrics": dict(done.metrics),
            }
        )
    else:
        result(summary(done))


def _pipeline(path: str, changes: Sequence[str], *, as_json: bool) -> None:
    """Several runs, each from the one before."""
    from palate.config.pipeline import load_pipeline

    pipeline = load_pipeline(path, changes)
    for line in pipeline.notices:
        note(line)

    from palate.feedback.judges import judge_reward
    from palate.pipelines.pipeline import run_pipeline
    from palate.report.pages.pipeline import is_pipeline_folder, write_pipeline_report
    from palate.report.pages.run import write_run_report

    def finished(run: Path) -> None:
        if speaks():
            write_run_report(run)

    try:
        done = run_pipeline(pipeline, judges=judge_reward, say=say, finished=finished)
        for run in done.runs:
            if not (run / "report.html").exists():  # killed after its last step
                finished(run)
    finally:
        if speaks() and is_pipeline_folder(pipeline.output_dir):
            write_pipeline_report(pipeline.output_dir)
    if as_json:
        result_json(
            {
                "status": "completed",
                "output_dir": str(done.output_dir),
                "runs": [str(run) for run in done.runs],
                "report": str(done.output_dir / "report.html"),
                "model": str(done.model),
                "drift": done.drift,
            }
        )
    else:
        lines = ["status    completed", *(f"run       {run}" for run in done.runs), f"model     {done.model}"]
        result("\n".join([*lines, f"report    {done.output_dir / 'report.html'}"]))


def summary(done: RunResult) -> str:
    """The few lines that a person wants at the end of a run."""
    rows = [("status", done.status), ("run directory", str(done.output_dir))]
    if done.report is not None:
        rows.append(("report", str(done.report)))
    for prefix, where in (("", "last step"), ("eval_", "held-out")):
        for key in SUMMARY:
            value = done.metrics.get(f"{prefix}{key}")
            if isinstance(value, int | float):
                rows.append((f"{where} {key}", f"{value:.4f}"))
    return "\n".join(f"{name:<29} {text}" for name, text in rows)
