"""The page of a sweep: the figures of each point with intervals, and the points on the trade-off front."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

from palate.artifacts import read_json, write_text
from palate.charts import Axis, Chart, DataPoint, Series, draw
from palate.charts.text import number, percent
from palate.config.mapping.translate import translate
from palate.config.objectives.options import OPTIONS
from palate.config.reader import ConfigEntry
from palate.errors import ArtifactError
from palate.report.contents import RunContents, finite, is_number, mapping, read_begun
from palate.report.curves import MOST_RUNS, Drawing, accuracies, accuracy_row, overlaid
from palate.report.html import render
from palate.report.intervals import json_interval, shown
from palate.report.key_figures import Card
from palate.report.tables import Link, Table, exact
from palate.stats import Interval

SWEEP, SEED, KL = "sweep.json", "seed", "eval_health/kl"
_NAMES = {
    KL: "KL to the reference",
    "accuracy": "held-out accuracy",
    "eval_reward": "reward on held-out prompts",
    "eval_loss": "held-out loss",
}
_OBJECTIVES = {"accuracy": 1, "eval_reward": 1, "eval_loss": -1}
_LOSS_KEYS = {"stage", "pref_loss", "margin_weight", "ref_model", *OPTIONS}
"""Config keys that change what the loss measures."""
_MOST_PAIRS = 3
_METRICS = {
    "eval_loss": "loss",
    "eval_rewards/margins": "margin",
    KL: "KL per answer",
    "eval_reward": "reward",
    "loss": "training loss",
}


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """A row of `sweep.json`.

    Attributes:
        name: its run directory, below the sweep's.
        values: of the swept keys.
        status: of its run.
        metrics: the run's final metrics.
        accuracy: its `accuracy.json`; empty if not evaluated.
        health: names of its health findings.
    """

    name: str
    values: Mapping[str, Any]
    status: str
    metrics: Mapping[str, Any]
    accuracy: Mapping[str, Any]
    health: Sequence[str]

    @property
    def settings(self) -> str:
        """The swept keys with their values, as text."""
        return ", ".join(_flat(item, key) for key, item in self.values.items())

    def interval(self, figure: str) -> Interval | None:
        """The figure `accuracy`, the accuracy of a dimension by its name, or a metric (an interval of no width)."""
        accuracy = self.accuracy.get("implied", self.accuracy.get("reward"))
        dimension = mapping(self.dimensions.get(figure)).get("implied")
        metric = finite(self.metrics.get(figure))
        alone = None if metric is None else Interval(metric, metric, metric, 0.95, 0)
        return json_interval(accuracy if figure == "accuracy" else dimension) or alone

    @property
    def dimensions(self) -> Mapping[str, Any]:
        """Accuracies by dimension, of runs with several."""
        return mapping(self.accuracy.get("dimensions"))


def is_sweep_folder(path: Path) -> bool:
    return (path / SWEEP).is_file()


def write_sweep_report(folder: Path | str, output: Path | str | None = None) -> Path:
    """Writes the report of a sweep, complete or not, and returns its path; `report.html` in its folder by default.

    Raises:
        ArtifactError: the folder is no sweep, its `sweep.json` is damaged, or the report cannot be written.
    """
    folder = Path(folder)
    points, facts = read_sweep(folder)
    path = Path(output or folder / "report.html")
    reports = {point.name: folder / point.name / "report.html" for point in points}
    links = {name: os.path.relpath(report, path.parent) for name, report in reports.items() if report.is_file()}
    contents = {point.name: found for point in points if (found := read_begun(folder / point.name))}
    return write_text(path, sweep_report(points, facts, folder.resolve().name, contents, links))


def sweep_report(
    points: Sequence[SweepPoint],
    facts: Mapping[str, Any],
    name: str,
    contents: Mapping[str, RunContents],
    links: Mapping[str, str],
    draw: Callable[..., str] = render,
) -> str:
    """The HTML of a sweep's report; with `html.fragment` its content, for another page.

    Args:
        facts: `sweep.json`.
        contents: of the runs that have begun, by the name of the point.
        links: the addresses of their pages.
    """
    # sweep.json has the status that each run had when the last one began or ended
    points = [replace(one, status=contents[one.name].status) if one.name in contents else one for one in points]
    drawn, front = charts(points)
    curves = _runs_by_settings(points, contents)
    objective = objective_of(points)
    return draw(
        "sweep.html",
        title=name,
        status=str(facts.get("status", "unknown")),
        keys=[str(key) for key in facts.get("keys", ())],
        points=len(points),
        done=sum(point.status == "completed" for point in points),
        charts=drawn,
        table=point_table(points, front, links),
        seeds=seed_table(points),
        curves=overlaid(curves),
        left_out=max(0, len(curves) - MOST_RUNS),
        front=_front_note(front),
        findings=[
            (f"{index}: {point.settings}", ", ".join(name.replace("_", " ") for name in point.health))
            for index, point in enumerate(points, 1)
            if point.health
        ],
        objective=_NAMES[objective[0]] if objective else "",
    )


def read_sweep(folder: Path) -> tuple[list[SweepPoint], Mapping[str, Any]]:
    """The points of `sweep.json`, and its whole content."""
    facts = mapping(read_json(folder / SWEEP))
    rows = facts.get("points")
    if not isinstance(rows, list) or not all("name" in mapping(row) for row in rows):
        raise ArtifactError(f"{folder / SWEEP}: is damaged: it lists no points; run the sweep again")
    points = [
        SweepPoint(
            str(row["name"]),
            mapping(row.get("values")),
            str(row.get("status", "unknown")),
            mapping(row.get("metrics")),
            mapping(row.get("accuracy")),
            [str(name) for name in row.get("health") or ()],
        )
        for row in rows
    ]
    return points, facts


def objective_of(points: Sequence[SweepPoint]) -> tuple[str, int] | None:
    """The held-out figure that the points are sorted by, and 1 or −1: more or less of it is better.

    Losses of runs that differ in the loss itself (`pref_beta`, for example) cannot be compared, so they sort nothing.
    """
    # Swept keys are as they were written, so perhaps those of TRL or LLaMA-Factory.
    written = [{key: ConfigEntry(item, SWEEP) for key, item in point.values.items()} for point in points]
    changed = {key for entries in written for key in translate(entries).entries} & _LOSS_KEYS
    return next(
        (
            (figure, sign)
            for figure, sign in _OBJECTIVES.items()
            if any(point.interval(figure) for point in points) and not (figure == "eval_loss" and changed)
        ),
        None,
    )


def ranking(points: Sequence[SweepPoint]) -> list[int]:
    """The indexes of the points, best first by the estimate; those without the figure last, in their own order."""
    objective = objective_of(points)
    if objective is None:
        return list(range(len(points)))
    figure, sign = objective
    keys = [-sign * found.estimate if (found := point.interval(figure)) else math.inf for point in points]
    return sorted(range(len(points)), key=keys.__getitem__)


def best_card(points: Sequence[SweepPoint]) -> list[Card]:
    """The figure of the point that is best so far; [] if none is measured on held-out rows."""
    objective = objective_of(points)
    if objective is None:
        return []
    figure, best = objective[0], ranking(points)[0]
    text = shown(points[best].interval(figure), as_percent=figure == "accuracy")
    return [Card(f"Best {_NAMES[figure]}", text, f"run {best + 1}: {points[best].settings}")]


def charts(points: Sequence[SweepPoint]) -> tuple[list[Drawing], list[bool]]:
    """The front for each pair of figures that are traded off, and all accuracies; and which points are on the front."""
    axes = _axes(points)
    measured: dict[int, list[Interval]] = {}
    for index, point in enumerate(points):
        intervals = [found for figure in axes if (found := point.interval(figure))]
        if axes and len(intervals) == len(axes):
            measured[index] = intervals
    signs = [-1 if figure == KL else 1 for figure in axes]
    values = [[sign * one.estimate for sign, one in zip(signs, found)] for found in measured.values()]
    front = {index for index, kept in zip(measured, on_front(values), strict=True) if kept}
    drawn: list[Drawing] = []
    for (i, x), (j, y) in list(combinations(enumerate(axes), 2))[:_MOST_PAIRS]:
        if measured:
            title = f"Trade-off of {_NAMES.get(x, x)} and {_NAMES.get(y, y)}"
            pairs = {index: (found[i], found[j]) for index, found in measured.items()}
            series = [
                _marks("not on the front", points, {p: pair for p, pair in pairs.items() if p not in front}, (x, y)),
                _marks("on the front", points, {p: pair for p, pair in pairs.items() if p in front}, (x, y)),
            ]
            drawn.append((title, draw(Chart(f"chart-front-{len(drawn)}", title, series, axes[y], axes[x]))))
    rows = [
        row
        for index, point in enumerate(points)
        for row in accuracy_row(
            f"{index + 1}: {point.settings}",
            point.accuracy.get("implied", point.accuracy.get("reward")),
            "a" if index in front or not front else "d",
        )
    ]
    if rows:
        title = "Preference accuracy on held-out pairs"
        drawn.append((title, accuracies(title, rows)))
    return drawn, [index in front for index in range(len(points))]


def on_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """For each point whether it is on the Pareto front, higher being better: O(n²).

    No other point is at least as high in every figure and higher in one.
    """

    def beats(other: Sequence[float], point: Sequence[float]) -> bool:
        return all(a >= b for a, b in zip(other, point, strict=True)) and list(other) != list(point)

    return [not any(beats(other, point) for other in points) for point in points]


def point_table(
    points: Sequence[SweepPoint], front: Sequence[bool], links: Mapping[str, str] = MappingProxyType({})
) -> Table:
    """A row for each point: values, accuracies with 95 % intervals, final metrics, and whether it is on the front.

    The best comes first, with its number in the order of the sweep. `links` leads from the name of a point to the page
    of its run.
    """
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    accuracies, metrics = _figures_of(points)
    lines = []
    for index in ranking(points):
        point = points[index]
        status = point.status if point.status != "completed" else "front" if front[index] else ""
        name = f"{index + 1} · {status}" if status else str(index + 1)
        line: list[str | Link] = [Link(name, links[point.name]) if point.name in links else name]
        line += [_flat(point.values[key]) if key in point.values else "–" for key in keys]
        line += [shown(point.interval(figure), as_percent=True) for figure in accuracies]
        lines.append([*line, *(shown(point.interval(metric)) for metric in metrics)])
    columns = ["", *keys, *accuracies, *(_METRICS[metric] for metric in metrics)]
    return Table(columns, lines, numeric=frozenset(range(1 + len(keys), len(columns))))


def seed_table(points: Sequence[SweepPoint]) -> Table | None:
    """Mean ± standard deviation over the points that differ only in `seed`; None if no two do."""
    groups = [group for group in _by_settings(points).values() if len(group) > 1]
    if not groups:
        return None
    keys = list(dict.fromkeys(key for point in points for key in point.values if key != SEED))
    accuracies, metrics = _figures_of(points)
    lines = []
    for group in groups:
        line = [_flat(group[0].values[key]) if key in group[0].values else "–" for key in keys]
        line.append(str(len(group)))
        line += [_mean_and_deviation(group, figure, as_percent=True) for figure in accuracies]
        lines.append([*line, *(_mean_and_deviation(group, metric) for metric in metrics)])
    columns = [*keys, "seeds", *accuracies, *(_METRICS[metric] for metric in metrics)]
    return Table(columns, lines, numeric=frozenset(range(len(keys), len(columns))))


def _axes(points: Sequence[SweepPoint]) -> dict[str, Axis]:
    """The figures that are traded off: dimensions of multi-objective runs, else KL and accuracy if measured."""
    names = dict.fromkeys(name for point in points for name in point.dimensions)
    if len(names) > 1:
        return {name: _accuracy_axis(f"{name}: held-out accuracy") for name in names}
    kl = Axis("KL to the reference, nats per answer (less is better)")
    found = {KL: kl, "accuracy": _accuracy_axis("held-out accuracy")}
    return found if all(any(point.interval(figure) for point in points) for figure in found) else {}


def _accuracy_axis(name: str) -> Axis:
    return Axis(f"{name} (more is better)", percent=True, levels=[(0.5, "")])


def _marks(
    name: str, points: Sequence[SweepPoint], pairs: Mapping[int, tuple[Interval, Interval]], figures: tuple[str, str]
) -> Series:
    """The points of one group in two figures; those on the front are coloured and joined."""
    front = name == "on the front"
    marks, tips = [], []
    for index, (x, y) in sorted(pairs.items(), key=lambda item: (item[1][0].estimate, item[1][1].estimate)):
        marks.append(DataPoint(x.estimate, x.low, x.high, y.estimate, y.low, y.high, str(index + 1)))
        values = ", ".join(
            f"{_NAMES.get(figure, figure)} {number(one.estimate, 3) if figure == KL else percent(one.estimate)}"
            for figure, one in zip(figures, (x, y), strict=True)
        )
        tips.append(f"{index + 1}: {points[index].settings}: {values}" + (f", {name}" if front else ""))
    return Series(name, marks, "a" if front else "d", "dashed" if front else "none", marks=True, tips=tips)


def _front_note(front: Sequence[bool]) -> str:
    """The points on the front in a sentence; empty if nothing is traded off."""
    chosen = [str(index) for index, kept in enumerate(front, 1) if kept]
    if not chosen:
        return ""
    which = f"point{'s' if len(chosen) > 1 else ''} {', '.join(chosen)} of {len(front)} points"
    return (
        f"On the trade-off front: {which}. No other point is at least as good in every figure and better in one, by "
        "the estimates; where intervals overlap, the order may be chance."
    )


def _mean_and_deviation(points: Sequence[SweepPoint], figure: str, *, as_percent: bool = False) -> str:
    """`62.5 ± 1.8 %` or `0.612 ± 0.02`, the deviation with n − 1; for one point its figure alone."""
    values = [found.estimate for point in points if (found := point.interval(figure))]
    if not values:
        return "–"
    mean = statistics.fmean(values)
    if len(values) == 1:
        return percent(mean) if as_percent else number(mean, 3)
    deviation = statistics.stdev(values)
    if as_percent:
        return f"{100 * mean:.1f} ± {percent(deviation)}"
    return f"{number(mean, 3)} ± {number(deviation, 2)}"


def _by_settings(points: Sequence[SweepPoint]) -> dict[str, list[SweepPoint]]:
    """The points by all their values but the seed, as text."""
    groups: dict[str, list[SweepPoint]] = {}
    for point in points:
        unseeded = replace(point, values={key: item for key, item in point.values.items() if key != SEED})
        groups.setdefault(unseeded.settings or "all", []).append(point)
    return groups


def _runs_by_settings(
    points: Sequence[SweepPoint], contents: Mapping[str, RunContents]
) -> dict[str, list[RunContents]]:
    """The runs that have begun, by all values but the seed."""
    begun = [point for point in points if point.name in contents]
    return {name: [contents[one.name] for one in group] for name, group in _by_settings(begun).items()}


def _figures_of(points: Sequence[SweepPoint]) -> tuple[list[str], list[str]]:
    """The accuracies (dimensions first) and the final metrics that any point has."""
    accuracies = list(dict.fromkeys(name for point in points for name in point.dimensions))
    accuracies += ["accuracy"] if any(point.interval("accuracy") for point in points) else []
    metrics = [name for name in _METRICS if any(name in point.metrics for point in points)]
    if "eval_loss" in metrics and "loss" in metrics:
        metrics.remove("loss")
    return accuracies, metrics


def _flat(item: Any, key: str = "") -> str:
    """A swept value as text: `pref_beta 0.1`, `helpful 1, safe 0`."""
    if isinstance(item, Mapping):
        return ", ".join(f"{name} {_flat(entry)}" for name, entry in item.items())
    text = number(item, 3) if is_number(item) else exact(item)
    return f"{key} {text}" if key else text
