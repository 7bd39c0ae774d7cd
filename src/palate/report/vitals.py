"""What evaluations saw of sampled answers, beside the reference's and the limits that the config sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from palate.report.blocks import Table
from palate.report.charts import describe, drawn
from palate.report.contents import RunContents, values_of
from palate.report.page import value
from palate.report.scales import number
from palate.report.svg import Chart, Series

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


def vitals_table(contents: RunContents) -> Table | None:
    """A row for what the answers began as, and one for each evaluation."""
    seen = [name for name in _COLUMNS if any(f"health/{name}" in row for row in contents.evaluations)]
    if not seen:
        return None
    before = _before(contents)
    rows = contents.evaluations[-_LAST:]
    of = str(contents.vitals.get("of") or "reference")
    lines = [[f"the {of}", *(_cell(name, before.get(name)) for name in seen)]] if before else []
    lines += [
        [f"step {number(row['step'])}", *(_cell(name, row.get(f"health/{name}")) for name in seen)] for row in rows
    ]
    more = max(0, len(contents.evaluations) - _LAST)
    return Table(["", *(_COLUMNS[name] for name in seen)], lines, more, numeric=frozenset(range(1, len(seen) + 1)))


def vitals_charts(contents: RunContents) -> list[tuple[str, Markup]]:
    """(title, svg) of the charts of sampled answers; a line across is what the reference had, or a limit."""
    before, limits = _before(contents), contents.run.get("config")
    limit = limits.get("health_max_kl") if isinstance(limits, Mapping) else None
    plans = (
        ("health-kl", "KL to the reference", "nats per token", [("kl_per_token", "sampled answers", "a")], "limit"),
        ("health-entropy", "Entropy of sampled answers", "nats per token", [("entropy", "policy", "a")], "entropy"),
        ("health-length", "Length of sampled answers", "tokens", [("length", "policy", "a")], "length"),
        (
            "health-shares",
            "Shape of sampled answers",
            "share",
            [("ended", "end their turn", "a"), ("loops", "end in a loop", "c"), ("distinct_2", "distinct pairs", "b")],
            "",
        ),
    )
    found: list[tuple[str, Markup]] = []
    for key, title, unit, lines, level in plans:
        series = [one for name, label, colour in lines if (one := _series(contents, name, label, colour))]
        if not series:
            continue
        at = limit if level == "limit" else before.get(level)
        levels = ((float(at), "limit" if level == "limit" else "reference"),) if isinstance(at, int | float) else ()
        chart = Chart(
            key=f"chart-{key}",
            title=title,
            description=describe(title, series),
            unit=unit,
            series=series,
            percent=key == "health-shares",
            levels=levels,
        )
        found.append((title, drawn(chart)))
    return found


def _series(contents: RunContents, name: str, label: str, colour: str) -> Series | None:
    points = values_of(contents.evaluations, f"health/{name}")
    return Series(label, [x for x, _ in points], [y for _, y in points], colour, points=True) if points else None


def _before(contents: RunContents) -> Mapping[str, Any]:
    found = contents.vitals.get("vitals")
    return found if isinstance(found, Mapping) else {}


def _cell(name: str, item: Any) -> str:
    if not isinstance(item, int | float):
        return "–"
    return f"{100 * item:.0f} %" if name in _SHARES else value(round(item, 3))
