"""The report of one run: a single HTML file made from its artifacts alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import RunDir, write_text
from palate.evaluation.table import answers
from palate.report.blocks import Block, Table, block, settings
from palate.report.charts import accuracy_chart, lead_charts, more_charts
from palate.report.collapse import collapse_signs
from palate.report.contents import Row, RunContents, read_contents
from palate.report.directions import by_metric, directions, verdict
from palate.report.headline import cards, facts, prompts_of, subtitle
from palate.report.held_out import held_out_interval, shown
from palate.report.page import render, value
from palate.report.scales import number
from palate.report.stages import ONLINE, counted, nouns, stage_of
from palate.report.vitals import vitals_charts, vitals_table

_SHOWN_ELSEWHERE = {
    *(
        "schema",
        "status",
        "stage",
        "config",
        "versions",
        "machine",
        "health",
        "notices",
        "error",
        "started",
        "finished",
    ),
    *("model", "reference", "objective", "precision", "attention", "timings", "peak_memory_bytes", "data"),
}
_METRICS = (
    *("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "absolute_error"),
    *("logps/chosen", "logps/rejected", "grad_norm", "learning_rate"),
)
_ONLINE_METRICS = ("reward", "kl", "length", "entropy", "ended", "reward_spread", "loss", "grad_norm", "learning_rate")
_LAST_EVALUATIONS = 12


def write_run_report(run_dir: Path | str, output: Path | str | None = None) -> Path:
    """Writes the report of a run, complete or not, and returns its path.

    Args:
        run_dir: a run directory with a `run.json`; whatever else is missing is left out of the report or named in it.
        output: where to write; `report.html` in the run directory unless given.

    Raises:
        ArtifactError: the directory is no run, its `run.json` is damaged, or the report cannot be written.
    """
    contents = read_contents(Path(run_dir))
    return write_text(output or RunDir(contents.path).report, run_report(contents))


def run_report(contents: RunContents) -> str:
    """The HTML of a run's report."""
    judged = directions(contents)
    kind, line = verdict(contents, judged)
    stage = stage_of(contents)
    return render(
        "run.html",
        title=contents.name,
        subtitle=subtitle(contents),
        status=contents.status,
        error=contents.find("error"),
        cards=cards(contents),
        facts=facts(contents),
        verdict=kind,
        verdict_line=line,
        directions=by_metric(judged),
        health=_findings(contents.run.get("health")),
        vitals=vitals_table(contents),
        vitals_prompts=contents.vitals.get("prompts"),
        vitals_charts=vitals_charts(contents),
        unremarkable=_unremarkable(contents),
        notices=[*contents.problems, *_lines(contents.run.get("notices"))],
        charts=lead_charts(contents),
        more_charts=more_charts(contents),
        nouns=nouns(stage),
        online=stage in ONLINE,
        accuracy=accuracy_chart(contents.accuracy),
        accuracy_note=accuracy_note(contents.accuracy),
        metrics=metric_table(contents),
        samples=answers(contents.samples),
        stage=str(contents.find("stage", "config.stage", default="policy")).upper(),
        data=_part({key: item for key, item in contents.data.items() if key != "example"}),
        example=_example(contents.data.get("example")),
        config=settings(config) if (config := _mapping(contents.run.get("config"))) else None,
        versions=_part({**_mapping(contents.run.get("versions")), **_mapping(contents.run.get("machine"))}),
        others=_part({key: item for key, item in contents.run.items() if key not in _SHOWN_ELSEWHERE}),
    )


def accuracy_note(accuracy: Mapping[str, Any]) -> str:
    """What the accuracies count: how many pairs, which log-probability, and the margin beside them."""
    parts = [counted("dpo", accuracy.get("n"), prompts_of(accuracy))]
    if average := {"mean": "per token", "sum": "of whole answers"}.get(str(accuracy.get("average"))):
        parts.append(f"own log-probabilities {average}")
    parts.append("95\N{NO-BREAK SPACE}% intervals")
    margin = _mapping(accuracy.get("margin"))
    if {"estimate", "low", "high"} <= set(margin):
        mean, low, high = (number(margin[key], 3) for key in ("estimate", "low", "high"))
        margin_of = "of rewards" if accuracy.get("reward") else "log π/π_ref"
        unit = "" if accuracy.get("reward") else " nats"
        parts.append(f"mean margin {margin_of} {mean}{unit} ({low} to {high})")
    return ", ".join(parts)


def metric_table(contents: RunContents) -> Table | None:
    """First and last training row and the latest evaluations, a metric a column."""
    rows: list[tuple[str, Row]] = [("train", row) for row in [*contents.train[:1], *contents.train[1:][-1:]]]
    rows += [("held-out", row) for row in contents.evaluations[-_LAST_EVALUATIONS:]]
    metrics = _ONLINE_METRICS if stage_of(contents) in ONLINE else _METRICS
    columns = [name for name in metrics if any(name in row for _, row in rows)]
    if not columns:
        return None
    lines = [
        [_split(contents, where, row), number(row["step"]), *(_cell(row, name) for name in columns)]
        for where, row in rows
    ]
    more = max(0, len(contents.evaluations) - _LAST_EVALUATIONS)
    return Table(["split", "step", *columns], lines, more, numeric=frozenset(range(1, len(columns) + 2)))


def _split(contents: RunContents, where: str, row: Row) -> str:
    """`train`, or what was held out with its counts."""
    return where if where == "train" else counted(stage_of(contents), row.get("rows"), row.get("prompts"))


def _cell(row: Row, name: str) -> str:
    """A figure, of held-out rows with its 95 % interval."""
    item = row.get(name)
    if name in row and not isinstance(item, int | float):
        return "not finite"
    within = shown(held_out_interval(row, name)) if name in row else ""
    return f"{value(item)} ({within})" if within else value(item)


def _findings(items: Any) -> list[dict[str, str]]:
    """Health findings with every field there, as text."""
    names = {"name": "finding", "severity": "warning", "step": "?", "message": "", "remedy": ""}
    found = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return [{key: str(item.get(key) or default) for key, default in names.items()} for item in found]


def _unremarkable(contents: RunContents) -> str:
    """What a run without findings says of how it was watched; empty where nothing is known of it."""
    if "health" not in contents.run or contents.run["health"] or contents.status == "failed":
        return ""
    if collapse_signs(contents):
        return ""
    looks = [_plural(len(contents.train), "step"), _plural(len(contents.evaluations), "evaluation")]
    return f"Nothing wrong was seen in {' and '.join(looks[: 1 + bool(contents.evaluations)])}."


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _lines(items: Any) -> list[str]:
    return [str(item) for item in items if item] if isinstance(items, list) else []


def _example(item: Any) -> Mapping[str, Any] | None:
    """The row of the pre-flight report that is shown token by token, if it is whole."""
    completions = _mapping(item).get("completions")
    if not isinstance(completions, list) or not all({"start", "end"} <= set(_mapping(one)) for one in completions):
        return None
    return _mapping(item)


def _mapping(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else {}


def _part(content: Any) -> Block | None:
    return block("", content) if isinstance(content, Mapping) and content else None
