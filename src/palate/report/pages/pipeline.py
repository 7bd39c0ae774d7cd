"""The page of a pipeline: its stages or rounds in order, their distance from the first model, and their answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.artifacts import read_json, write_text
from palate.charts import Axis, Chart, Row, curve
from palate.charts.text import number
from palate.errors import ArtifactError
from palate.evaluation.answers.table import SideBySide, prompt_answers, side_by_side
from palate.report.contents import RunContents, is_number, mapping, read_begun
from palate.report.curves import Drawing, accuracies, accuracy_row, drawn
from palate.report.html import render
from palate.report.intervals import json_interval, shown
from palate.report.judgements.directions import directions, verdict
from palate.report.judgements.stages import counted
from palate.report.key_figures import cards
from palate.report.tables import Link, Table

PIPELINE = "pipeline.json"
_CARDS = 3


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """A row of `pipeline.json`.

    Attributes:
        name: `1-sft`, `round-2`.
        stage: of the run.
        folder: its run directory.
        contents: of the directory; None for a run that has not begun.
        drift: KL and accuracies of its policy against the first model; empty if not measured.
    """

    name: str
    stage: str
    folder: Path
    contents: RunContents | None
    drift: Mapping[str, Any]


def is_pipeline_folder(path: Path) -> bool:
    return (path / PIPELINE).is_file()


def write_pipeline_report(folder: Path | str, output: Path | str | None = None) -> Path:
    """Writes the page of a pipeline, complete or not, and returns its path; `report.html` in its folder by default.

    Raises:
        ArtifactError: the folder is no pipeline, its `pipeline.json` is damaged, or the page cannot be written.
    """
    path = Path(output or Path(folder) / "report.html")

    def link(run: Path) -> str | None:
        report = run / "report.html"
        return os.path.relpath(report, path.parent) if report.is_file() else None

    return write_text(path, pipeline_report(*read_pipeline(Path(folder)), Path(folder).resolve().name, link))


def pipeline_report(
    runs: Sequence[PipelineRun],
    status: str,
    name: str,
    link: Callable[[Path], str | None],
    draw: Callable[..., str] = render,
) -> str:
    """The HTML of a pipeline's page; with `html.fragment` its content, for another page.

    `link` gives the address of the page of a run directory, if it has one.
    """
    rows = _answers(runs)
    return draw(
        "pipeline.html",
        title=name,
        subtitle=_subtitle(runs),
        status=status,
        table=run_table(runs, link),
        drift=drift_table(runs),
        charts=drift_charts(runs),
        rows=rows,
        columns=["index", "Prompt", *(rows[0].outputs if rows else ())],
        notices=[f"{run.name}: {line}" for run in runs if run.contents for line in run.contents.problems],
    )


def pipeline_facts(folder: Path) -> Mapping[str, Any]:
    """`pipeline.json`, each of whose runs has a name."""
    facts = mapping(read_json(folder / PIPELINE))
    rows = facts.get("runs")
    if not isinstance(rows, list) or not all("name" in mapping(row) for row in rows):
        raise ArtifactError(f"{folder / PIPELINE}: is damaged: it lists no runs; run the pipeline again")
    return facts


def read_pipeline(
    folder: Path, read: Callable[[Path], RunContents | None] = read_begun
) -> tuple[list[PipelineRun], str]:
    """The runs of `pipeline.json`, in order, and the pipeline's status.

    `read` gives the contents of a run directory, or None if it is not there.
    """
    facts = pipeline_facts(folder)
    drift = mapping(facts.get("drift"))
    runs = []
    for row in facts["runs"]:
        name = str(row["name"])
        # If the pipeline was moved, its runs are below it and not where output_dir says.
        path = folder / name
        contents = read(path)
        if contents is None:
            path = Path(str(row.get("output_dir", name)))
            contents = read(path)
        runs.append(PipelineRun(name, str(row.get("stage", "")), path, contents, mapping(drift.get(name))))
    return runs, str(facts.get("status", "unknown"))


def run_table(runs: Sequence[PipelineRun], link: Callable[[Path], str | None]) -> Table:
    """A row for each run: a link to its page, status, training rows, key figures, and its verdict."""
    lines: list[list[str | Link]] = []
    for run in runs:
        if run.contents is None:
            lines.append([run.name, run.stage, "not begun", "–", "–", "–"])
            continue
        figures = "; ".join(f"{card.label} {card}" for card in cards(run.contents)[:_CARDS])
        _, line = verdict(run.contents, directions(run.contents))
        rows = run.contents.find("data.train_groups")
        page = link(run.folder)
        name = Link(run.name, page) if page else run.name
        trained = number(rows) if is_number(rows) else "–"
        lines.append([name, run.stage, run.contents.status, trained, figures or "–", line])
    return Table(["run", "stage", "status", "rows", "key figures", "verdict"], lines, numeric=frozenset({3}))


def drift_table(runs: Sequence[PipelineRun]) -> Table | None:
    """KL to the first model, and accuracies and margin on the fixed held-out pairs, with 95 % intervals."""
    lines = []
    for run in runs:
        if not run.drift:
            continue
        accuracy = mapping(run.drift.get("accuracy"))
        lines.append(
            [
                run.name,
                shown(json_interval(run.drift.get("kl"))),
                shown(json_interval(accuracy.get("policy")), as_percent=True),
                shown(json_interval(accuracy.get("margin"))),
                counted("dpo", accuracy.get("n"), accuracy.get("prompts")) if accuracy else "–",
            ]
        )
    columns = ["run", "KL to the first model, nats per answer", "accuracy", "margin, nats", "pairs"]
    return Table(columns, lines, numeric=frozenset({1, 2, 3})) if lines else None


def drift_charts(runs: Sequence[PipelineRun]) -> list[Drawing]:
    """KL to the first model from run to run, and accuracies on the fixed pairs."""
    found: list[Drawing] = []
    measured = [(index, json_interval(run.drift.get("kl"))) for index, run in enumerate(runs, 1)]
    kl = [(index, interval) for index, interval in measured if interval is not None]
    if kl:
        values = [(0.0, 0.0), *((float(index), interval.estimate) for index, interval in kl)]
        ends = [(None, None), *((interval.low, interval.high) for _, interval in kl)]
        series = curve("policy", values, marks=True, ends=ends)
        title = "KL to the first model"
        chart = Chart("chart-drift", title, [series], Axis("nats per answer"), Axis("run", "steps"))
        found.append((title, drawn(chart)))
    rows: list[Row] = []
    for run in runs:
        accuracy = mapping(run.drift.get("accuracy"))
        if not rows:
            rows += accuracy_row("first model", accuracy.get("reference"), "d")
        rows += accuracy_row(run.name, accuracy.get("policy"), "a")
    if rows:
        title = "Accuracy on the fixed held-out pairs"
        found.append((title, accuracies(title, rows)))
    return found


def _answers(runs: Sequence[PipelineRun]) -> list[SideBySide]:
    sampled = {run.name: prompt_answers(run.contents.samples) for run in runs if run.contents and run.contents.samples}
    return side_by_side(sampled) if sampled else []


def _subtitle(runs: Sequence[PipelineRun]) -> str:
    stages = [run.stage for run in runs]
    if len(set(stages)) == 1 and len(stages) > 1:
        return f"{len(stages)} rounds of {stages[0]}"
    return " → ".join(stages)
