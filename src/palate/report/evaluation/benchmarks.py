"""Benchmarks before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from palate.charts.text import p_value, percent
from palate.report.document import Section
from palate.report.evaluation.headline import Headline, counted
from palate.report.evaluation.results import ResultFile
from palate.report.intervals import json_interval
from palate.report.pages.winrate import figure_rows
from palate.report.tables import Cell, Table, figure

_MANY = 10
"""With more categories of a metric than this, they are only in the result file."""


def run_model(facts: Mapping[str, Any], run: str) -> Mapping[str, Any]:
    """The run's model among those of a result: by name, else the last one."""
    models: Sequence[Mapping[str, Any]] = facts["models"]
    named = [model for model in models if run in (model["name"], str(model["source"]).rstrip("/").rpartition("/")[2])]
    return (named or models)[-1]


def benchmark_headlines(facts: Mapping[str, Any], run: str) -> list[Headline]:
    """Each metric over all items, of the run and of what it is compared with."""
    model, compared = run_model(facts, run), _compared(facts, run)
    left_out = _left_out(model)
    found = []
    if compared and _left_out(facts["models"][0]) != left_out:
        left_out = f"before {_left_out(facts['models'][0])}, after {left_out}"
    if not compared:
        rates = [(rate["metric"], None, rate["mean"], None) for rate in model["rates"] if rate["category"] is None]
    else:
        rates = [
            (one["metric"], one["before"], one["after"], one["difference"])
            for one in compared
            if one["category"] is None
        ]
    grades = facts.get("grades", ())
    for metric, before, after, change in rates:
        rate = json_interval(after)
        if rate is None:
            raise ValueError(f"the rate of {metric} is no interval")
        ends = json_interval(before), rate, json_interval(change)
        found.append(
            Headline(facts["title"], metric, facts["metrics"].get(metric, ""), *ends, left_out, metric not in grades)
        )
    return found


def benchmark_section(source: ResultFile, run: str) -> Section:
    """The rates of all models, the paired comparison by category, and how it was measured."""
    facts = source.facts
    lines = [f"Protocol: {facts['protocol']}.", *(f"Deviation: {text}." for text in facts["deviations"])]
    asked = f"All {facts['items']:,} items"
    if facts["seed"] is not None:
        asked = f"{facts['items']:,} of {facts['of']:,} items, drawn with seed {facts['seed']}"
    lines.append(f"{asked}; {facts['prompt_form']} prompts, precision {facts['precision']}.")
    lines += [f"{metric}: {meaning}." for metric, meaning in facts["metrics"].items()]
    lines += [f"{model['name']}: {note}" for model in facts["models"] for note in model.get("notes", ())]
    grades = facts.get("grades", ())
    rates: list[Sequence[Cell]] = [
        (
            rate["metric"],
            model["name"],
            figure(rate["mean"], "number" if rate["metric"] in grades else "percent"),
            rate["mean"]["n"],
            _left_out(model),
        )
        for model in facts["models"]
        for rate in model["rates"]
        if rate["category"] is None
    ]
    tables = [("", Table(("metric", "model", "rate (95 %)", "n", "left out"), rates, numeric=frozenset({3})))]
    compared = _compared(facts, run)
    counts = Counter(one["metric"] for one in compared if one["category"] is not None)
    shown = [one for one in compared if one["category"] is None or counts[one["metric"]] <= _MANY]
    if many := [metric for metric, count in counts.items() if count > _MANY]:
        lines.append(f"The categories of {', '.join(many)} are in {source.path.name}.")
    if shown:
        tables.append(
            ("Before and after, paired on the same items; p of categories adjusted by Holm", _changes(shown, grades))
        )
    for model in facts["models"]:
        tables += _judged(model)
    return Section(f"bench-{source.sha256[:8]}", facts["title"], lines, (), tables)


def _judged(model: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """The figures of a win rate, and those that the benchmark's own program defines; none of other benchmarks."""
    found = []
    if win_rate := model.get("winrate"):
        caption = f"{model['name']} (A) against {win_rate['b']['name']} (B), judged by {win_rate['judge']}"
        found.append((caption, Table(("figure", "value"), figure_rows(win_rate))))
    if published := model.get("published"):
        rows: list[Sequence[Cell]] = [
            (one["name"], percent(one["estimate"]) if one["interval"] is None else figure(one["interval"]), one["note"])
            for one in published
        ]
        caption = f"{model['name']}, as the benchmark's own program defines it"
        found.append((caption, Table(("figure", "value", "note"), rows)))
    return found


def _changes(compared: Sequence[Mapping[str, Any]], grades: Sequence[str]) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            one["metric"],
            one["category"] or "all",
            *(figure(one[side], "number" if one["metric"] in grades else "percent") for side in ("before", "after")),
            figure(one["difference"], "number" if one["metric"] in grades else "points"),
            p_value(one["p"] if one["p_holm"] is None else one["p_holm"]),
            one["difference"]["n"],
        )
        for one in compared
    ]
    return Table(("metric", "items", "before", "after", "change", "p", "n"), rows, numeric=frozenset({5, 6}))


def _compared(facts: Mapping[str, Any], run: str) -> Sequence[Mapping[str, Any]]:
    """The comparison of the run with the first model of the result; empty if there is none."""
    name = run_model(facts, run)["name"]
    return next((one["differences"] for one in facts["comparisons"] if one["after"] == name), ())


def _left_out(model: Mapping[str, Any]) -> str:
    return counted(Counter(dropped["reason"] for dropped in model["left_out"]))
