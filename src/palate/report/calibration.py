"""Accuracies by group and the reliability curve of a run, from `accuracy.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from palate.charts import Axis, Chart, DataPoint, Series, draw
from palate.charts.text import amount, number, percent, visible
from palate.report.contents import finite, is_number, mapping
from palate.report.intervals import json_interval, shown
from palate.report.tables import Cell, Table, figure

_KINDS = (
    ("reference", "before (reference)"),
    ("policy", "after (policy)"),
    ("implied", "implied reward"),
    ("reward", "reward model"),
)
_MOST = 20


def reliability_chart(accuracy: Mapping[str, Any], *, key: str = "chart-reliability") -> Markup | None:
    """Share of pairs ranked as labelled against the model's confidence, with intervals; None if not measured."""
    found = mapping(accuracy.get("calibration")).get("bins")
    points, tips = [], []
    for one in found if isinstance(found, list) else ():
        predicted, observed = finite(mapping(one).get("predicted")), json_interval(mapping(one).get("observed"))
        if predicted is None or observed is None:
            continue
        points.append(DataPoint(predicted, None, None, observed.estimate, observed.low, observed.high))
        pairs = amount(int(finite(one.get("n")) or 0), "pair")
        tips.append(f"confidence {percent(predicted)}, {pairs}: {shown(observed, as_percent=True)} right")
    if not points:
        return None
    ideal = [DataPoint(x, None, None, x, None, None) for x in (0.5, 1.0)]
    return draw(
        Chart(
            key,
            "Calibration of the preference probability",
            [
                Series("calibrated", ideal, "d", line="dashed", tips=["confidence 50 %", "confidence 100 %"]),
                Series("measured", points, "a", marks=True, tips=tips),
            ],
            Axis("pairs ranked as labelled", percent=True),
            Axis("confidence", percent=True),
        )
    )


def bin_table(accuracy: Mapping[str, Any]) -> Table | None:
    """The values of the reliability curve; None if it was not measured."""
    found = mapping(accuracy.get("calibration")).get("bins")
    rows: list[Sequence[Cell]] = [
        [
            f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %",
            int(one["n"]),
            percent(one["predicted"]),
            figure(one["observed"]),
        ]
        for one in found or ()
    ]
    names = ("confidence", "pairs", "mean confidence", "ranked as labelled")
    return Table(names, rows, numeric=frozenset({1, 2, 3})) if rows else None


def calibration_note(accuracy: Mapping[str, Any]) -> str:
    """The caption of the reliability curve: ECE, Brier score, β."""
    found = mapping(accuracy.get("calibration"))
    parts = [
        f"10 bins, ECE {number(finite(found.get('ece')), 3)}",
        f"Brier score {shown(json_interval(found.get('brier')))}",
    ]
    if is_number(accuracy.get("beta")):
        parts.append(f"\N{GREEK SMALL LETTER BETA} {number(accuracy['beta'])}")
    return ", ".join([*parts, "95\N{NO-BREAK SPACE}% intervals"])


def group_tables(accuracy: Mapping[str, Any]) -> list[Table]:
    tables = []
    for grouping, item in mapping(accuracy.get("groups")).items():
        groups = [(str(name), mapping(group)) for name, group in mapping(item).items()]
        margin = ("margin", "margin" if accuracy.get("reward") else "margin, nats")
        kinds = [kind for kind in (*_KINDS, margin) if any(json_interval(group.get(kind[0])) for _, group in groups)]
        if kinds in ([], [margin]):
            continue
        rows: list[list[Cell]] = [
            [
                visible(name),
                number(finite(group.get("n"))),
                number(finite(group.get("prompts"))),
                *(figure(group.get(kind), "number" if kind == "margin" else "percent") for kind, _ in kinds),
            ]
            for name, group in groups[:_MOST]
        ]
        columns = [visible(str(grouping)), "pairs", "prompts", *(label for _, label in kinds)]
        more = max(0, len(groups) - _MOST)
        tables.append(Table(columns, rows, more, numeric=frozenset(range(1, len(columns)))))
    return tables
