"""The page of a sweep: what each point came to, with intervals, and which points are on the trade-off front."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from palate.artifacts import read_json, write_text
from palate.errors import ArtifactError
from palate.report.blocks import Link, Table, exact
from palate.report.charts import estimate
from palate.report.contents import RunContents, read_contents
from palate.report.overlays import MOST_CURVES, overlaid
from palate.report.page import render
from palate.report.scales import number
from palate.report.scatter import Axis, Place, scatter_chart, shown
from palate.report.svg import interval_chart
from palate.stats import on_front

SWEEP, SEED = "sweep.json", "seed"
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
    path = Path(output or Path(folder) / "report.html")
    curves = _curves(points, Path(folder))
    page = render(
        "sweep.html",
        title=Path(folder).resolve().name,
        status=str(facts.get("status", "unknown")),
        keys=[str(key) for key in facts.get("keys", ())],
        points=len(points),
        done=sum(point.status == "completed" for point in points),
        charts=drawn,
        table=point_table(points, fronts, _links(points, Path(folder), path.parent)),
        seeds=seed_table(points),
        curves=overlaid(curves),
        left_out=max(0, len(curves) - MOST_CURVES),
        front=_front_words(points, fronts),
        seen=[
            (f"{place}: {_told(point)}", ", ".join(name.replace("_", " ") for name in point.health))
            for place, point in enumerate(points, 1)
            if point.health
        ],
    )
    return write_text(path, page)


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


def point_table(
    points: Sequence[SweepPoint], front: Sequence[bool], links: Mapping[str, str] = MappingProxyType({})
) -> Table:
    """A row for each point: values, accuracies with 95 % intervals, final metrics, and whether it is on the front.

    `links` leads from a point's name to its run's report.
    """
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    accuracies, metrics = _figures_of(points)
    lines = []
    for place, point in enumerate(points):
        mark = point.status if point.status != "completed" else "front" if front[place] else ""
        name = f"{place + 1} · {mark}" if mark else str(place + 1)
        line: list[str | Link] = [Link(name, links[point.name]) if point.name in links else name]
        line += [_flat(point.values[key]) if key in point.values else "–" for key in keys]
        line += [_rate(point, name) for name in accuracies]
        lines.append([*line, *(_figure(point.metrics.get(name)) for name in metrics)])
    columns = ["", *keys, *accuracies, *(_FIGURES[name] for name in metrics)]
    first = 1 + len(keys)
    return Table(columns, lines, numeric=frozenset(range(first, first + len(accuracies) + len(metrics))))


def seed_table(points: Sequence[SweepPoint]) -> Table | None:
    """Mean ± standard deviation over the points that differ only in `seed`; None where no two do."""
    groups = [group for group in _by_seed(points).values() if len(group) > 1]
    if not groups:
        return None
    keys = list(dict.fromkeys(key for point in points for key in point.values if key != SEED))
    accuracies, metrics = _figures_of(points)
    lines = []
    for group in groups:
        line = [_flat(group[0].values[key]) if key in group[0].values else "–" for key in keys]
        line.append(str(len(group)))
        line += [_mean_and_deviation(group, name, percent=True) for name in accuracies]
        lines.append([*line, *(_mean_and_deviation(group, name) for name in metrics)])
    columns = [*keys, "seeds", *accuracies, *(_FIGURES[name] for name in metrics)]
    return Table(columns, lines, numeric=frozenset(range(len(keys), len(columns))))


def _mean_and_deviation(points: Sequence[SweepPoint], figure: str, *, percent: bool = False) -> str:
    """`62.5 ± 1.8 %` or `0.612 ± 0.02`, the deviation with n − 1; of one point its figure alone."""
    values = [found[0] * (100 if percent else 1) for point in points if (found := point.interval(figure))]
    if not values:
        return "–"
    mean = statistics.fmean(values)
    unit = " %" if percent else ""
    if len(values) == 1:
        return f"{mean:.1f}{unit}" if percent else number(mean, 3)
    deviation = statistics.stdev(values)
    return f"{mean:.1f} ± {deviation:.1f}{unit}" if percent else f"{number(mean, 3)} ± {number(deviation, 2)}"


def _by_seed(points: Sequence[SweepPoint]) -> dict[str, list[SweepPoint]]:
    """The points by all their values but the seed, in words."""
    groups: dict[str, list[SweepPoint]] = {}
    for point in points:
        values = {key: item for key, item in point.values.items() if key != SEED}
        groups.setdefault(", ".join(_flat(item, key) for key, item in values.items()) or "all", []).append(point)
    return groups


def _curves(points: Sequence[SweepPoint], folder: Path) -> dict[str, list[RunContents]]:
    """The runs that are there by group."""
    groups = {
        name: [read_contents(folder / one.name) for one in group if (folder / one.name / "run.json").is_file()]
        for name, group in _by_seed(points).items()
    }
    return {name: runs for name, runs in groups.items() if runs}


def _links(points: Sequence[SweepPoint], folder: Path, below: Path) -> dict[str, str]:
    reports = {point.name: folder / point.name / "report.html" for point in points}
    return {name: os.path.relpath(report, below) for name, report in reports.items() if report.is_file()}


def _figures_of(points: Sequence[SweepPoint]) -> tuple[list[str], list[str]]:
    """The accuracies (dimensions first) and the final metrics that any point has."""
    dimensions = list(dict.fromkeys(name for point in points for name in _mapping(point.accuracy.get("dimensions"))))
    accuracies = [*dimensions, *(["accuracy"] if any(point.interval("accuracy") for point in points) else [])]
    metrics = [name for name in _FIGURES if any(name in point.metrics for point in points)]
    if "eval_loss" in metrics and "loss" in metrics:
        metrics.remove("loss")
    return accuracies, metrics


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
    which = f"point{'s' if len(chosen) > 1 else ''} {', '.join(chosen)} of {len(points)} points"
    return (
        f"On the trade-off front: {which}. No other point is at least as good in every figure and better in one, by "
        "the estimates; where intervals overlap, the order may be chance."
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
