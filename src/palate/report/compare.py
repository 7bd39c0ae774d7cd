"""Runs beside each other: the same prompts answered by each, and what differs in how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate.artifacts import write_text
from palate.errors import ArtifactError
from palate.evaluation.table import SideBySide, answers, columns, distinct_names, side_by_side
from palate.report.blocks import Table, exact
from palate.report.charts import estimate
from palate.report.contents import RunContents, read_contents
from palate.report.headline import cards, contract, prompts_of
from palate.report.page import redacted, render, value
from palate.report.scales import number
from palate.report.stages import counted, stage_of
from palate.report.svg import Estimate, interval_chart

_NOT_A_DIFFERENCE = {"output_dir", "run_name", "overwrite_output_dir", "resume_from_checkpoint"}
_COLOURS = ("a", "b", "c")


def compare_runs(run_dirs: Sequence[Path | str], path: Path | str) -> Path:
    """Reads runs and writes the comparison of them to `path`.

    Raises:
        ArtifactError: a directory is no run, or no run sampled any answers and none was evaluated.
    """
    runs = [read_contents(Path(run_dir)) for run_dir in run_dirs]
    samples = zip(unique_names(runs), runs, strict=True)
    return write_compare_report(side_by_side({name: answers(run.samples) for name, run in samples}), runs, path)


def write_compare_report(rows: Sequence[SideBySide], runs: Sequence[RunContents], path: Path | str) -> Path:
    """Writes the side-by-side page: the accuracy of each run, what differs between them, and the answers.

    Args:
        rows: one per prompt; `outputs` in the order of `runs`. One run gives the columns index, Prompt,
            DPO Model Output, Reference Model Output; several give a column each.
        runs: what was compared, from `read_contents`; may be empty when only answers are at hand.
        path: the HTML file.

    Raises:
        ArtifactError: there are neither answers nor accuracies, or the page cannot be written.
    """
    names = unique_names(runs)
    if not rows and not any(run.accuracy for run in runs):
        where = ", ".join(str(run.path) for run in runs) or str(path)
        raise ArtifactError(f"{where}: neither samples.jsonl nor accuracy.json; there is nothing to compare")
    stage = str(runs[0].find("stage", "config.stage", default="dpo")) if len(runs) == 1 else "dpo"
    page = render(
        "compare.html",
        title=" · ".join(names) if names else Path(path).stem,
        runs=len(runs),
        accuracy=_accuracy(names, runs),
        held_out=held_out_note(names, runs),
        table=run_table(names, runs) if runs else None,
        columns=columns(rows, stage=stage),
        rows=rows,
        problems=[f"{name}: {line}" for name, run in zip(names, runs, strict=True) for line in run.problems],
    )
    return write_text(path, page)


def unique_names(runs: Sequence[RunContents]) -> list[str]:
    """The runs' directory names, with as much of the path before them as tells them apart."""
    return distinct_names([run.path for run in runs])


def run_table(names: Sequence[str], runs: Sequence[RunContents]) -> Table:
    """A column a run: objective, key figures, and every config key in which the runs differ."""
    lines: list[list[str]] = [["status", *(run.status for run in runs)]]
    lines.append(["objective", *(value(contract(run)) for run in runs)])
    lines.append(["held out", *(_held_out(run) for run in runs)])
    figures = [
        {card.label: f"{card.figure} ({card.note})" if card.note else card.figure for card in cards(run)}
        for run in runs
    ]
    for name in dict.fromkeys(name for found in figures for name in found):
        lines.append([name.lower(), *(found.get(name, "–") for found in figures)])
    lines += [[key, *(exact(one) for one in values)] for key, values in differences(runs)]
    return Table(["", *names], lines)


def _held_out(run: RunContents) -> str:
    rows, identity = _held_out_rows(run), run.find("data.held_out_identity")
    if not rows:
        return "nothing"
    prompts = prompts_of(run.accuracy) or run.find("data.eval_prompts")
    return counted(stage_of(run), rows, prompts) + (f" ({value(identity)})" if identity else "")


def held_out_note(names: Sequence[str], runs: Sequence[RunContents]) -> str:
    """Whether the figures of the runs are of the same held-out rows, with how many; empty for a single run."""
    counts = [counted(stage_of(run), rows, prompts_of(run.accuracy)) for run in runs if (rows := _held_out_rows(run))]
    if len(runs) < 2 or not counts:
        return ""
    identities = {run.find("data.held_out_identity") for run in runs}
    if identities == {None}:
        return f"Whether the runs held out the same rows is not recorded ({', '.join(dict.fromkeys(counts))})."
    if len(identities) == 1:
        return f"All runs held out the same rows: {counts[0]}."
    each = ", ".join(f"{name}: {number(_held_out_rows(run))}" for name, run in zip(names, runs, strict=True))
    return f"The runs held out different rows ({each}), so their figures are not of the same questions."


def _held_out_rows(run: RunContents) -> int:
    rows = run.accuracy.get("n") or run.find("data.eval_groups")
    return int(rows) if isinstance(rows, int | float) else 0


def differences(runs: Sequence[RunContents]) -> list[tuple[str, list[Any]]]:
    """(key, value per run) of every config key whose value is not the same in all runs."""
    configs = [config if isinstance(config := run.run.get("config"), Mapping) else {} for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config if key not in _NOT_A_DIFFERENCE)
    found = [(key, [config.get(key) for config in configs]) for key in keys]
    shown = [redacted(config) for config in configs]
    return [(key, [one.get(key) for one in shown]) for key, values in found if any(v != values[0] for v in values)]


def _accuracy(names: Sequence[str], runs: Sequence[RunContents]) -> Markup | None:
    """Preference accuracy of every run after training, the reference's of the first run on top."""
    found: list[Estimate] = []
    for place, (name, run) in enumerate(zip(names, runs, strict=True)):
        if place == 0 or run.accuracy.get("reference") != runs[0].accuracy.get("reference"):
            found += estimate("reference" if place == 0 else f"reference of {name}", run.accuracy.get("reference"), "d")
        found += estimate(name, run.accuracy.get("policy"), _COLOURS[place % len(_COLOURS)])
    if not found:
        return None
    told = "; ".join(f"{one.label} {100 * one.value:.1f} %" for one in found)
    return interval_chart("chart-accuracy", "Preference accuracy", f"{told}.", found, level=(0.5, "chance"))
