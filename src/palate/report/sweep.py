"""The page of a sweep: what each point came to, with intervals, and which points are on the trade-off front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate.artifacts import read_json, write_text
from palate.errors import ArtifactError
from palate.report.blocks import Table, exact
from palate.report.charts import estimate
from palate.report.page import render
from palate.report.scales import number
from palate.report.scatter import Axis, Place, scatter_chart, shown
from palate.report.svg import interval_chart
from palate.stats import on_front

SWEEP = "sweep.json"
_MOST_PAIRS = 3
_FIGURES = {
    "eval_loss": "loss",
    "eval_rewards/margins": "margin",
    "eval_health/kl": "KL per answer",
    "eval_reward": "reward",
    "loss": "training loss",
}


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """A row of `sweep.json`.

    Attributes:
        name: its run directory within the sweep's.
        values: the swept keys.
        status: of its run.
        metrics: its run's final metrics.
        accuracy: its `accuracy.json`; empty where it was not evaluated.
        health: names of what was found wrong.
    """

    name: str
    values: Mapping[str, Any]
    status: str
    metrics: Mapping[str, Any]
    accuracy: Mapping[str, Any]
    health: Sequence[str]

    def interval(self, figure: str) -> tuple[float, float, float] | None:
        """(estimate, low, high) of `accuracy`, of a dimension's accuracy by its name, or of a metric."""
        found = self.accuracy.get("implied", self.accuracy.get("reward"))
        if figure != "accuracy":
            found = _mapping(_mapping(self.accuracy.get("dimensions")).get(figure)).get("implied")
        if isinstance(found, Mapping) and {"estimate", "low", "high"} <= found.keys():
            return float(found["estimate"]), float(found["low"]), float(found["high"])
        metric = self.metrics.get(figure)
        return (float(metric),) * 3 if isinstance(metric, int | float) else None


def is_sweep_folder(path: Path) -> bool:
    return (path / SWEEP).is_file()


def write_sweep_report(folder: Path | str, output: Path | str | None = None) -> Path:
    """Writes the report of a sweep, complete or not, and returns its path; `report.html` in its folder unless given.

    Raises:
        ArtifactError: the folder is no sweep, its `sweep.json` is damaged, or the report cannot be written.
    """
    points, facts = read_sweep(Path(folder))
    drawn, fronts = charts(points)
    page = render(
        "sweep.html",
        title=Path(folder).resolve().name,
        status=str(facts.get("status", "unknown")),
        keys=[str(key) for key in facts.get("keys", ())],
        points=len(points),
        done=sum(point.status == "completed" for point in points),
        charts=drawn,
        table=point_table(points, fronts),
        front=_front_words(points, fronts),
        seen=[
            (f"{place}: {_told(point)}", ", ".join(name.replace("_", " ") for name in point.health))
            for place, point in enumerate(points, 1)
            if point.health
        ],
    )
    return write_text(output or Path(folder) / "report.html", page)


def read_sweep(folder: Path) -> tuple[list[SweepPoint], Mapping[str, Any]]:
    """The points of `sweep.json`, and the whole of it."""
    facts = read_json(folder / SWEEP)
    rows = facts.get("points") if isinstance(facts, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and "name" in row for row in rows):
        raise ArtifactError(f"{folder / SWEEP}: is damaged: it lists no points; run the sweep again")
    points = [
        SweepPoint(
            str(row["name"]),
            _mapping(row.get("values")),
            str(row.get("status", "unknown")),
            _mapping(row.get("metrics")),
            _mapping(row.get("accuracy")),
            [str(name) for name in row.get("health") or ()],
        )
        for row in rows
    ]
    return points, facts


def axes(points: Sequence[SweepPoint]) -> list[tuple[str, Axis]]:
    """What is traded off, by figure: the dimensions of multi-objective runs, else accuracy against KL."""
    names = dict.fromkeys(name for point in points for name in _mapping(point.accuracy.get("dimensions")))
    if len(names) > 1:
        return [(name, Axis(f"{name}: held-out accuracy", percent=True, level=0.5)) for name in names]
    kl = Axis("KL to the reference, nats per answer", higher=False)
    accuracy = Axis("held-out accuracy", percent=True, level=0.5)
    found = [("eval_health/kl", kl), ("accuracy", accuracy)]
    return found if all(any(point.interval(name) for point in points) for name, _ in found) else []


def charts(points: Sequence[SweepPoint]) -> tuple[list[tuple[str, Markup]], list[bool]]:
    """(title, svg) of the front, two figures at a time, and of all accuracies; and which points are on the front."""
    figures = axes(points)
    measured = [number for number, one in enumerate(points) if figures and all(one.interval(f) for f, _ in figures)]
    values = [[(points[number].interval(figure) or (0.0,))[0] for figure, _ in figures] for number in measured]
    among = on_front(values, [axis.higher for _, axis in figures])
    front = {number for number, kept in zip(measured, among, strict=True) if kept}
    drawn: list[tuple[str, Markup]] = []
    for (x_name, x_axis), (y_name, y_axis) in list(combinations(figures, 2))[:_MOST_PAIRS]:
        title = f"Trade-off of {_short(x_axis)} and {_short(y_axis)}"
        places = [_place(points, number, (x_name, x_axis), (y_name, y_axis), number in front) for number in measured]
        if places:
            drawn.append((title, scatter_chart(f"chart-front-{len(drawn)}", title, x_axis, y_axis, places)))
    rows = [
        row
        for number, point in enumerate(points, 1)
        for row in estimate(
            f"{number}: {_told(point)}",
            point.accuracy.get("implied", point.accuracy.get("reward")),
            "a" if number - 1 in front or not front else "d",
        )
    ]
    if rows:
        told = "; ".join(f"{row.label} {100 * row.value:.1f} %" for row in rows)
        title = "Preference accuracy on held-out pairs"
        drawn.append((title, interval_chart("chart-accuracy", title, f"{told}.", rows, level=(0.5, "chance"))))
    return drawn, [number in front for number in range(len(points))]


def point_table(points: Sequence[SweepPoint], front: Sequence[bool]) -> Table:
    """A row for each point: values, accuracies with 95 % intervals, final metrics, and whether it is on the front."""
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    dimensions = list(dict.fromkeys(name for point in points for name in _mapping(point.accuracy.get("dimensions"))))
    accuracies = [*dimensions, *(["accuracy"] if any(point.interval("accuracy") for point in points) else [])]
    metrics = [name for name in _FIGURES if any(name in point.metrics for point in points)]
    if "eval_loss" in metrics:
        metrics.remove("loss")
    lines = []
    for place, point in enumerate(points):
        mark = point.status if point.status != "completed" else "front" if front[place] else ""
        line = [f"{place + 1} · {mark}" if mark else str(place + 1)]
        line += [_flat(point.values[key]) if key in point.values else "–" for key in keys]
        line += [_rate(point, name) for name in accuracies]
        lines.append([*line, *(_figure(point.metrics.get(name)) for name in metrics)])
    columns = ["", *keys, *accuracies, *(_FIGURES[name] for name in metrics)]
    first = 1 + len(keys)
    return Table(columns, lines, numeric=frozenset(range(first, first + len(accuracies) + len(metrics))))


def _place(points: Sequence[SweepPoint], number: int, x: tuple[str, Axis], y: tuple[str, Axis], front: bool) -> Place:
    point = points[number]
    at = [point.interval(name) or (0.0, 0.0, 0.0) for name, _ in (x, y)]
    figures = ", ".join(f"{_short(axis)} {shown(axis, found[0])}" for (_, axis), found in zip((x, y), at))
    return Place(at[0], at[1], str(number + 1), f"{number + 1}: {_told(point)}: {figures}", front)


def _front_words(points: Sequence[SweepPoint], front: Sequence[bool]) -> str:
    """The front in a sentence; empty where nothing is traded off."""
    chosen = [str(number) for number, kept in enumerate(front, 1) if kept]
    if not chosen:
        return ""
    return (
        f"On the front: {', '.join(chosen)} of {len(points)}. No other point is at least as good in every figure and "
        "better in one, by the estimates; where intervals overlap, the order may be chance."
    )


def _rate(point: SweepPoint, name: str) -> str:
    found = point.interval(name)
    return "–" if found is None else f"{100 * found[0]:.1f} % ({100 * found[1]:.1f} to {100 * found[2]:.1f})"


def _figure(metric: Any) -> str:
    return number(metric) if isinstance(metric, int | float) else "–"


def _told(point: SweepPoint) -> str:
    return ", ".join(_flat(item, key) for key, item in point.values.items())


def _flat(item: Any, key: str = "") -> str:
    if isinstance(item, Mapping):
        return ", ".join(f"{name} {_flat(one)}" for name, one in item.items())
    text = number(item, 3) if isinstance(item, int | float) and not isinstance(item, bool) else exact(item)
    return f"{key} {text}" if key else text


def _short(axis: Axis) -> str:
    return axis.name.partition(":")[0].partition(",")[0]


def _mapping(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else {}
