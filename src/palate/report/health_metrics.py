"""Metrics of the answers sampled at evaluations: a table and charts, with the reference's values and the limits."""

from __future__ import annotations

from typing import Any

from palate.charts import Axis, Chart, curve
from palate.charts.text import number
from palate.report.contents import RunContents, is_number, mapping, values_of
from palate.report.curves import Drawing, drawn
from palate.report.html import value
from palate.report.tables import Table

_LAST = 12
_COLUMNS = {
    "kl_per_token": "KL per token",
    "kl": "KL per answer",
    "entropy": "entropy",
    "length": "length",
    "ended": "end their turn",
    "loops": "end in a loop",
    "distinct_2": "distinct pairs",
    "length_correlation": "margin with length",
}
_SHARES = ("ended", "loops", "distinct_2")
_CHARTS = (
    ("KL to the reference", "nats per token", [("kl_per_token", "sampled answers", "a")]),
    ("Entropy of sampled answers", "nats per token", [("entropy", "policy", "a")]),
    ("Length of sampled answers", "tokens", [("length", "policy", "a")]),
    (
        "Shape of sampled answers",
        "share",
        [("ended", "end their turn", "a"), ("loops", "end in a loop", "c"), ("distinct_2", "distinct pairs", "b")],
    ),
)


def health_table(contents: RunContents) -> Table | None:
    """A row for the answers before training, and one for each of the last evaluations."""
    seen = [name for name in _COLUMNS if any(f"health/{name}" in row for row in contents.evaluations)]
    if not seen:
        return None
    before = mapping(contents.baseline.get("vitals"))
    of = str(contents.baseline.get("of") or "reference")
    lines = [[f"the {of}", *(_cell(name, before.get(name)) for name in seen)]] if before else []
    for row in contents.evaluations[-_LAST:]:
        lines.append([f"step {number(row['step'])}", *(_cell(name, row.get(f"health/{name}")) for name in seen)])
    more = max(0, len(contents.evaluations) - _LAST)
    return Table(["", *(_COLUMNS[name] for name in seen)], lines, more, numeric=frozenset(range(1, len(seen) + 1)))


def health_charts(contents: RunContents) -> list[Drawing]:
    """Charts of the sampled answers; a horizontal line is the reference's value, or a limit."""
    before = mapping(contents.baseline.get("vitals"))
    levels = {
        "KL to the reference": (contents.find("config.health_max_kl"), "limit"),
        "Entropy of sampled answers": (before.get("entropy"), "reference"),
        "Length of sampled answers": (before.get("length"), "reference"),
    }
    found = []
    for index, (title, unit, lines) in enumerate(_CHARTS):
        series = [
            curve(label, values, colour, marks=True)
            for name, label, colour in lines
            if (values := values_of(contents.evaluations, f"health/{name}"))
        ]
        if series:
            level, label = levels.get(title, (None, ""))
            axis = Axis(unit, percent=unit == "share", levels=[(float(level), label)] if is_number(level) else [])
            found.append((title, drawn(Chart(f"chart-health-{index}", title, series, axis))))
    return found


def _cell(name: str, item: Any) -> str:
    if not is_number(item):
        return "–"
    return f"{100 * item:.0f} %" if name in _SHARES else value(round(item, 3))
