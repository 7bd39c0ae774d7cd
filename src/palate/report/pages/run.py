"""The report of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import RunDir, write_text
from palate.charts.text import amount, interval_text, number
from palate.evaluation.answers.table import prompt_answers
from palate.report.calibration import calibration_note, group_tables, reliability_chart
from palate.report.contents import MetricRow, RunContents, finite, is_number, mapping, read_contents
from palate.report.curves import accuracy_chart, lead_charts, more_charts
from palate.report.health_metrics import health_charts, health_table
from palate.report.html import render, value
from palate.report.intervals import ends, held_out_interval
from palate.report.judgements.collapse import collapse_symptoms
from palate.report.judgements.directions import by_metric, directions, verdict
from palate.report.judgements.stages import ONLINE, counted, nouns, stage_of
from palate.report.key_figures import cards, facts, prompts_of, subtitle
from palate.report.tables import Block, Table, block, settings

_SHOWN_ELSEWHERE = {
    *("schema", "status", "stage", "config", "versions", "machine", "health", "notices", "error", "started"),
    *("finished", "model", "reference", "objective", "precision", "attention", "timings", "peak_memory_bytes", "data"),
    "progress",  # of the pages of palate web
}
"""Keys of `run.json` that other parts of the page show."""
_METRICS = (
    *("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "absolute_error"),
    *("logps/chosen", "logps/rejected", "grad_norm", "learning_rate"),
)
_ONLINE_METRICS = ("reward", "kl", "length", "entropy", "ended", "reward_spread", "loss", "grad_norm", "learning_rate")
_LAST_EVALUATIONS = 12


def write_run_report(run_dir: Path | str, output: Path | str | None = None) -> Path:
    """Writes the report of a run, complete or not, and returns its path.

    Args:
        run_dir: a run directory with a `run.json`; other files may be missing.
        output: HTML file; `report.html` in the run directory by default.

    Raises:
        ArtifactError: the directory is no run, its `run.json` is damaged, or the report cannot be written.
    """
    contents = read_contents(Path(run_dir))
    return write_text(output or RunDir(contents.path).report, run_report(contents))


def run_report(contents: RunContents, draw: Callable[..., str] = render) -> str:
    """The HTML of a run's report; with `html.fragment` its content, for another page."""
    judged = directions(contents)
    kind, line = verdict(contents, judged)
    stage = stage_of(contents)
    config = mapping(contents.run.get("config"))
    return draw(
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
        health_table=health_table(contents),
        health_prompts=contents.baseline.get("prompts"),
        health_charts=health_charts(contents),
        no_finding=_no_finding(contents),
        notices=[*contents.problems, *_lines(contents.run.get("notices"))],
        charts=lead_charts(contents),
        more_charts=more_charts(contents),
        nouns=nouns(stage),
        online=stage in ONLINE,
        accuracy=accuracy_chart(contents.accuracy),
        accuracy_note=accuracy_note(contents.accuracy),
        reliability=reliability_chart(contents.accuracy),
        reliability_note=calibration_note(contents.accuracy),
        accuracy_groups=group_tables(contents.accuracy),
        metrics=metric_table(contents),
        samples=prompt_answers(contents.samples),
        stage=str(contents.find("stage", "config.stage", default="policy")).upper(),
        data=_block({key: item for key, item in contents.data.items() if key != "example"}),
        example=_example(contents.data.get("example")),
        config=settings(config) if config else None,
        versions=_block({**mapping(contents.run.get("versions")), **mapping(contents.run.get("machine"))}),
        others=_block({key: item for key, item in contents.run.items() if key not in _SHOWN_ELSEWHERE}),
    )


def accuracy_note(accuracy: Mapping[str, Any]) -> str:
    """The caption of the accuracies: number of pairs, kind of log-probability, and the mean margin."""
    parts = [counted("dpo", accuracy.get("n"), prompts_of(accuracy))]
    if average := {"mean": "per token", "sum": "of whole answers"}.get(str(accuracy.get("average"))):
        parts.append(f"log-probabilities {average}")
    parts.append("95\N{NO-BREAK SPACE}% intervals")
    margin = mapping(accuracy.get("margin"))
    mean, low, high = (finite(margin.get(key)) for key in ("estimate", "low", "high"))
    if mean is not None:
        of, unit = ("of rewards", "") if accuracy.get("reward") else ("log π/π_ref", " nats")
        within = interval_text(low, high)
        parts.append(f"mean margin {of} {number(mean, 3)}{unit}" + (f" ({within})" if within else ""))
    return ", ".join(parts)


def metric_table(contents: RunContents) -> Table | None:
    """First and last training row and the latest evaluations, a column for each metric."""
    rows: list[tuple[str, MetricRow]] = [("train", row) for row in [*contents.train[:1], *contents.train[1:][-1:]]]
    for row in contents.evaluations[-_LAST_EVALUATIONS:]:
        rows.append((counted(stage_of(contents), row.get("rows"), row.get("prompts")), row))
    metrics = _ONLINE_METRICS if stage_of(contents) in ONLINE else _METRICS
    columns = [name for name in metrics if any(name in row for _, row in rows)]
    if not columns:
        return None
    lines = [[split, number(row["step"]), *(_cell(row, name) for name in columns)] for split, row in rows]
    more = max(0, len(contents.evaluations) - _LAST_EVALUATIONS)
    return Table(["split", "step", *columns], lines, more, numeric=frozenset(range(1, len(columns) + 2)))


def _cell(row: MetricRow, name: str) -> str:
    """A metric, of held-out rows with its 95 % interval."""
    if name not in row:
        return "–"
    if not is_number(row[name]):
        return "not finite"
    within = ends(held_out_interval(row, name))
    return f"{value(row[name])} ({within})" if within else value(row[name])


def _findings(items: Any) -> list[dict[str, str]]:
    """Health findings with all fields, as text."""
    names = {"name": "finding", "severity": "warning", "step": "?", "message": "", "remedy": ""}
    found = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return [{key: str(item.get(key) or default) for key, default in names.items()} for item in found]


def _no_finding(contents: RunContents) -> str:
    """What was checked in a run without findings; empty if there are findings, or no checks were recorded."""
    if "health" not in contents.run or contents.run["health"]:
        return ""
    if contents.status == "failed" or collapse_symptoms(contents):
        return ""
    checked = amount(len(contents.train), "step")
    if contents.evaluations:
        checked += f" and {amount(len(contents.evaluations), 'evaluation')}"
    return f"Nothing wrong was found in {checked}."


def _lines(items: Any) -> list[str]:
    return [str(item) for item in items if item] if isinstance(items, list) else []


def _example(item: Any) -> Mapping[str, Any] | None:
    """The row of the data report that is shown token by token, if it is complete."""
    completions = mapping(item).get("completions")
    if not isinstance(completions, list) or not all({"start", "end"} <= set(mapping(one)) for one in completions):
        return None
    return mapping(item)


def _block(content: Mapping[str, Any]) -> Block | None:
    return block("", content) if content else None
