"""The page of a pipeline: its stages or rounds in order, how far each went from the first model, and their answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate.artifacts import read_json, write_text
from palate.errors import ArtifactError
from palate.evaluation.table import SideBySide, answers, side_by_side
from palate.report.blocks import Link, Table
from palate.report.charts import describe, drawn, estimate
from palate.report.contents import RunContents, read_contents
from palate.report.directions import directions, verdict
from palate.report.headline import cards
from palate.report.held_out import shown
from palate.report.page import render
from palate.report.scales import number
from palate.report.stages import counted
from palate.report.svg import Chart, Estimate, Series, interval_chart

PIPELINE = "pipeline.json"
_CARDS = 3


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """A row of `pipeline.json`.

    Attributes:
        name: `1-sft`, `round-2`.
        stage: of the run.
        folder: its run directory.
        contents: what lies there; None where it has not begun.
        drift: how far its policy is from the first model; empty where that was not measured.
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
    runs, status = read_pipeline(Path(folder))
    path = Path(output or Path(folder) / "report.html")
    rows = _answers(runs)
    page = render(
        "pipeline.html",
        title=Path(folder).resolve().name,
        subtitle=_subtitle(runs),
        status=status,
        table=run_table(runs, path.parent),
        drift=drift_table(runs),
        charts=drift_charts(runs),
        rows=rows,
        columns=["index", "Prompt", *(rows[0].outputs if rows else ())],
        problems=[f"{run.name}: {line}" for run in runs if run.contents for line in run.contents.problems],
    )
    return write_text(path, page)


def read_pipeline(folder: Path) -> tuple[list[PipelineRun], str]:
    """The runs of `pipeline.json`, in order, and the pipeline's status."""
    facts = read_json(folder / PIPELINE)
    rows = facts.get("runs") if isinstance(facts, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and "name" in row for row in rows):
        raise ArtifactError(f"{folder / PIPELINE}: is damaged: it lists no runs; run the pipeline again")
    drift = _mapping(facts.get("drift"))
    runs = []
    for row in rows:
        # A pipeline that was moved lies with its runs.
        beside, written = folder / str(row["name"]), Path(str(row.get("output_dir", row["name"])))
        place = beside if (beside / "run.json").is_file() else written
        contents = read_contents(place) if (place / "run.json").is_file() else None
        runs.append(
            PipelineRun(str(row["name"]), str(row.get("stage", "")), place, contents, _mapping(drift.get(row["name"])))
        )
    return runs, str(facts.get("status", "unknown"))


def run_table(runs: Sequence[PipelineRun], below: Path) -> Table:
    """A row for each run: a link to its report, status, rows trained on, key figures, and what its curves say."""
    lines: list[list[str | Link]] = []
    for run in runs:
        if run.contents is None:
            lines.append([run.name, run.stage, "not begun", "–", "–", "–"])
            continue
        figures = [f"{card.label} {card.figure} ({card.note})" if card.note else f"{card.label} {card.figure}"
                   for card in cards(run.contents)[:_CARDS]]  # fmt: skip
        _, line = verdict(run.contents, directions(run.contents))
        trained = run.contents.find("data.train_groups")
        rows = number(trained) if isinstance(trained, int | float) else "–"
        name = _link(run, below)
        lines.append([name, run.stage, run.contents.status, rows, "; ".join(figures) or "–", line])
    return Table(["run", "stage", "status", "rows", "figures", "curves"], lines, numeric=frozenset({3}))


def drift_table(runs: Sequence[PipelineRun]) -> Table | None:
    """KL to the first model, and accuracies and margin on the fixed held-out pairs, with 95 % intervals."""
    measured = [run for run in runs if run.drift]
    if not measured:
        return None
    lines = []
    for run in measured:
        accuracy = _mapping(run.drift.get("accuracy"))
        counts = counted("dpo", accuracy.get("n"), accuracy.get("prompts")) if accuracy else "–"
        lines.append(
            [
                run.name,
                _figure(run.drift.get("kl")),
                _figure(accuracy.get("policy"), percent=True),
                _figure(accuracy.get("margin")),
                counts,
            ]
        )
    return Table(
        ["run", "KL to the first model, nats per answer", "accuracy", "margin, nats", "pairs"],
        lines,
        numeric=frozenset({1, 2, 3}),
    )


def drift_charts(runs: Sequence[PipelineRun]) -> list[tuple[str, Markup]]:
    """(title, drawing) of KL to the first model from run to run, and of accuracies on the fixed pairs."""
    found: list[tuple[str, Markup]] = []
    places = [(place, _mapping(run.drift.get("kl"))) for place, run in enumerate(runs, 1)]
    kl = [(float(place), one) for place, one in places if isinstance(one.get("estimate"), int | float)]
    if kl:
        series = Series(
            "policy",
            [0.0, *(place for place, _ in kl)],
            [0.0, *(one["estimate"] for _, one in kl)],
            points=True,
            low=[None, *(_end(one, "low") for _, one in kl)],
            high=[None, *(_end(one, "high") for _, one in kl)],
        )
        title = "KL to the first model"
        chart = Chart("chart-drift", title, describe(title, [series]), "nats per answer", [series], x_label="run")
        found.append((title, drawn(chart)))
    rows: list[Estimate] = []
    for run in runs:
        accuracy = _mapping(run.drift.get("accuracy"))
        if not rows:
            rows += estimate("first model", accuracy.get("reference"), "d")
        rows += estimate(run.name, accuracy.get("policy"), "a")
    if rows:
        told = "; ".join(f"{row.label} {100 * row.value:.1f} %" for row in rows)
        title = "Accuracy on the fixed held-out pairs"
        found.append((title, interval_chart("chart-accuracy", title, f"{told}.", rows, level=(0.5, "chance"))))
    return found


def _answers(runs: Sequence[PipelineRun]) -> list[SideBySide]:
    sampled = {run.name: answers(run.contents.samples) for run in runs if run.contents and run.contents.samples}
    return side_by_side(sampled) if sampled else []


def _subtitle(runs: Sequence[PipelineRun]) -> str:
    stages = [run.stage for run in runs]
    if len(set(stages)) == 1 and len(stages) > 1:
        return f"{len(stages)} rounds of {stages[0]}"
    return " → ".join(stages)


def _link(run: PipelineRun, below: Path) -> str | Link:
    report = run.folder / "report.html"
    return Link(run.name, os.path.relpath(report, below)) if report.is_file() else run.name


def _figure(interval: Any, *, percent: bool = False) -> str:
    found = _mapping(interval)
    if not isinstance(found.get("estimate"), int | float):
        return "–"
    text = f"{100 * found['estimate']:.1f} %" if percent else number(found["estimate"], 3)
    ends = shown(found, percent=percent)
    return f"{text} ({ends})" if ends else text


def _end(interval: Mapping[str, Any], name: str) -> float | None:
    end = interval.get(name)
    return float(end) if isinstance(end, int | float) else None


def _mapping(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else {}
