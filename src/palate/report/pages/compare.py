"""Runs side by side: their answers to the same prompts, accuracies, and the config keys in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate.artifacts import write_text
from palate.charts import Row
from palate.charts.text import number
from palate.errors import ArtifactError
from palate.evaluation.answers.table import SideBySide, columns, distinct_names, prompt_answers, side_by_side
from palate.report.contents import RunContents, is_number, mapping, read_contents
from palate.report.curves import accuracies, accuracy_row, overlaid
from palate.report.document import Section
from palate.report.html import redacted, render, value
from palate.report.judgements.stages import counted, stage_of
from palate.report.key_figures import cards, objective_text, prompts_of
from palate.report.tables import Table, exact

_NOT_A_DIFFERENCE = {"output_dir", "run_name", "overwrite_output_dir", "resume_from_checkpoint"}
_COLOURS = ("a", "b", "c")


def compare_runs(run_dirs: Sequence[Path | str], path: Path | str) -> Path:
    """Reads runs and writes their comparison to `path`.

    Raises:
        ArtifactError: a directory is no run, or no run sampled any answers and none was evaluated.
    """
    runs = [read_contents(Path(run_dir)) for run_dir in run_dirs]
    samples = {name: prompt_answers(run.samples) for name, run in zip(unique_names(runs), runs, strict=True)}
    return write_compare_report(side_by_side(samples), runs, path)


def write_compare_report(rows: Sequence[SideBySide], runs: Sequence[RunContents], path: Path | str) -> Path:
    """Writes the comparison page: accuracies, differences between the runs, and the answers.

    Args:
        rows: one per prompt; `outputs` in the order of `runs`. One run gives the columns index, Prompt,
            DPO Model Output, Reference Model Output; several give a column each.
        runs: from `read_contents`; may be empty if only answers are known.

    Raises:
        ArtifactError: there are neither answers nor accuracies, or the page cannot be written.
    """
    if not rows and not any(run.accuracy for run in runs):
        where = ", ".join(str(run.path) for run in runs) or str(path)
        raise ArtifactError(f"{where}: neither samples.jsonl nor accuracy.json; there is nothing to compare")
    title = " · ".join(unique_names(runs)) or Path(path).stem
    return write_text(path, compare_report(title, rows, runs))


def compare_report(
    title: str,
    rows: Sequence[SideBySide],
    runs: Sequence[RunContents],
    sections: Sequence[Section] = (),
    draw: Callable[..., str] = render,
) -> str:
    """The HTML of the comparison; with `html.fragment` its content, for another page.

    Args:
        title: heading.
        rows, runs: as for `write_compare_report`.
        sections: what else was measured about them.
    """
    names = unique_names(runs)
    stage = str(runs[0].find("stage", "config.stage", default="dpo")) if len(runs) == 1 else "dpo"
    return draw(
        "compare.html",
        title=title,
        runs=len(runs),
        accuracy=_accuracy(names, runs),
        held_out=held_out_note(names, runs),
        table=run_table(names, runs) if runs else None,
        curves=overlaid({name: [run] for name, run in zip(names, runs, strict=True)}) if len(runs) > 1 else [],
        sections=sections,
        columns=columns(rows, stage=stage),
        rows=rows,
        notices=[f"{name}: {line}" for name, run in zip(names, runs, strict=True) for line in run.problems],
    )


def unique_names(runs: Sequence[RunContents]) -> list[str]:
    """The directory names of the runs, with as much of their paths as makes them different."""
    return distinct_names([run.path for run in runs])


def run_table(names: Sequence[str], runs: Sequence[RunContents]) -> Table:
    """A column for each run: objective, key figures, and every config key in which the runs differ."""
    figures = [{card.label: str(card) for card in cards(run)} for run in runs]
    lines: list[list[str]] = [
        ["status", *(run.status for run in runs)],
        ["objective", *(value(objective_text(run)) for run in runs)],
        ["held out", *(_held_out(run) for run in runs)],
    ]
    for name in dict.fromkeys(name for found in figures for name in found):
        lines.append([name.lower(), *(found.get(name, "–") for found in figures)])
    lines += [[key, *map(exact, values)] for key, values in differences(runs)]
    return Table(["", *names], lines)


def held_out_note(names: Sequence[str], runs: Sequence[RunContents]) -> str:
    """Whether the runs were evaluated on the same held-out rows, with their number; empty for a single run."""
    counts = [counted(stage_of(run), rows, prompts_of(run.accuracy)) for run in runs if (rows := _held_out_rows(run))]
    if len(runs) < 2 or not counts:
        return ""
    identities = {run.find("data.held_out_identity") for run in runs}
    if identities == {None}:
        return f"Whether the runs held out the same rows is not recorded ({', '.join(dict.fromkeys(counts))})."
    if len(identities) == 1:
        return f"All runs held out the same rows: {counts[0]}."
    each = ", ".join(f"{name}: {number(_held_out_rows(run))}" for name, run in zip(names, runs, strict=True))
    return f"The runs held out different rows ({each}), so their figures cannot be compared directly."


def differences(runs: Sequence[RunContents]) -> list[tuple[str, list[Any]]]:
    """(key, value per run) of every config key that differs between the runs, with secrets hidden."""
    configs = [mapping(run.run.get("config")) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config if key not in _NOT_A_DIFFERENCE)
    shown = [redacted(config) for config in configs]
    return [
        (key, [config.get(key) for config in shown])
        for key in keys
        if any(config.get(key) != configs[0].get(key) for config in configs)
    ]


def _held_out(run: RunContents) -> str:
    rows, identity = _held_out_rows(run), run.find("data.held_out_identity")
    if not rows:
        return "nothing"
    prompts = prompts_of(run.accuracy) or run.find("data.eval_prompts")
    return counted(stage_of(run), rows, prompts) + (f" ({value(identity)})" if identity else "")


def _held_out_rows(run: RunContents) -> int:
    rows = run.accuracy.get("n") or run.find("data.eval_groups")
    return int(rows) if is_number(rows) else 0


def _accuracy(names: Sequence[str], runs: Sequence[RunContents]) -> Markup | None:
    """Preference accuracy of every run after training, and of each different reference above its run."""
    rows: list[Row] = []
    for index, (name, run) in enumerate(zip(names, runs, strict=True)):
        if index == 0 or run.accuracy.get("reference") != runs[0].accuracy.get("reference"):
            rows += accuracy_row(
                "reference" if index == 0 else f"reference of {name}", run.accuracy.get("reference"), "d"
            )
        rows += accuracy_row(name, run.accuracy.get("policy"), _COLOURS[index % len(_COLOURS)])
    return accuracies("Preference accuracy", rows) if rows else None
