"""`palate train`: from a config to a run directory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from palate.cli.arguments import AsJson, ConfigFile, Overrides, Words, config_and_overrides
from palate.cli.console import note, result, result_json, speaks
from palate.errors import Stopped

if TYPE_CHECKING:
    from palate.training.run import RunResult

# What the summary shows of the final metrics, where they are there.
SUMMARY = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")


def command(
    words: Words = None, config_file: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Train a model as a config says, and leave a run directory with model, metrics, samples and report."""
    path, changes = config_and_overrides(words, config_file, overrides)

    from palate.config.load import load_config

    loaded = load_config(path, changes)  # a wrong config is said before torch is imported
    for line in loaded.notices:
        note(line)

    from palate.report.run import write_run_report
    from palate.training.run import train

    try:
        done = train(loaded.config, notices=loaded.notices)
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
