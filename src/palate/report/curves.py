"""The charts of a run's metrics, train and held-out, and those of several runs in one chart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from palate.charts import Axis, Chart, Row, Series, curve, draw, interval_chart
from palate.charts.plot import COLOURS
from palate.charts.scale import ScaleName
from palate.charts.text import number, percent
from palate.report.contents import MetricRow, RunContents, is_number, mapping, values_of
from palate.report.intervals import FEWEST_PROMPTS, held_out_interval, json_interval
from palate.report.judgements.stages import ONLINE, nouns, stage_of

Drawing = tuple[str, Markup]
"""(title, chart)."""
Value = tuple[float, float | None]
"""(step, value); None for a value that was not finite."""

_MOST_POINTS = 240
"""Longer curves are averaged in bins, with the smallest and largest value of each as a band behind the line."""
MOST_RUNS = len(COLOURS)
"""Groups of runs in one chart."""
_CHANCE = (0.5, "chance")
_SIDES = (("chosen", "b"), ("rejected", "c"))
_OVERLAID = (
    ("reward", "Reward", "mean of the answers"),
    ("loss", "Loss", "loss per example"),
    ("rewards/accuracies", "Pairs ranked as labelled", "share of pairs"),
    ("rewards/margins", "Reward margin", "chosen − rejected"),
    ("kl", "KL to the reference", "nats per answer"),
)


def lead_charts(contents: RunContents) -> list[Drawing]:
    """The charts that the stage is judged by: reward, KL, length and entropy of answers, or loss and rewards."""
    return _drawn(_sampling_charts(contents) if stage_of(contents) in ONLINE else _loss_charts(contents))


def more_charts(contents: RunContents) -> list[Drawing]:
    """The charts that explain the others: gradient norm and learning rate, in online stages also the losses."""
    norms = _train(contents, "grad_norm")
    positive = [point.y for series in norms for point in series.points if point.y is not None and point.y > 0]
    wide = bool(positive) and max(positive) > 50 * min(positive)
    found = [
        _chart("grad-norm", "Gradient norm before clipping", "norm", norms, scale="log" if wide else "linear"),
        _chart("learning-rate", "Learning rate", "per step", _train(contents, "learning_rate")),
    ]
    if stage_of(contents) in ONLINE:
        found = [
            _chart("loss", "Loss", "loss per answer", _both(contents, "loss")),
            _chart("value-loss", "Value loss", "squared error", _train(contents, "value_loss")),
            _chart("spread", "Spread of rewards in a group", "standard deviation", _train(contents, "reward_spread")),
            _chart("clip-fraction", "Clipped tokens", "share of tokens", _train(contents, "clip_fraction")),
            *found,
        ]
    return _drawn(found)


def accuracy_chart(accuracy: Mapping[str, Any], *, key: str = "chart-accuracy") -> Markup | None:
    """Preference accuracy before and after with intervals, from `accuracy.json`; None if it has none."""
    kinds = (
        ("reference", "Before (reference)", "d"),
        ("policy", "After (policy)", "a"),
        ("implied", "Implied reward", "b"),
        ("reward", "Reward model", "a"),
    )
    rows = [row for kind, label, colour in kinds for row in accuracy_row(label, accuracy.get(kind), colour)]
    for name, dimension in mapping(accuracy.get("dimensions")).items():
        rows += accuracy_row(f"Implied reward, {name}", mapping(dimension).get("implied"), "c")
    return accuracies("Preference accuracy on held-out pairs", rows, key=key) if rows else None


def accuracy_row(label: str, item: Any, colour: str) -> list[Row]:
    """The row of a JSON interval in a chart of accuracies; none for anything else."""
    found = json_interval(item)
    if found is None or not (math.isfinite(found.low) and math.isfinite(found.high)):
        return []
    return [Row(label, found.estimate, found.low, found.high, colour)]


def accuracies(title: str, rows: Sequence[Row], *, key: str = "chart-accuracy") -> Markup:
    """Accuracies with their intervals and the level of chance."""
    return interval_chart(key, title, rows, level=_CHANCE, narrow=True)


def drawn(chart: Chart) -> Markup:
    """The chart, or its values as text where every series has a single one."""
    if any(len(series.points) > 1 for series in chart.series):
        return draw(chart)
    text = percent if chart.y.percent else number
    rows = [
        (series.name, text(point.y), f"at {chart.x.name} {number(point.x)}")
        for series in chart.series
        for point in series.points
    ]
    rows += [(name, text(level), "") for level, name in chart.y.levels]
    unit = "" if chart.y.percent else chart.y.name
    items = [Markup("<dt>{}</dt><dd><b>{}</b> {} {}</dd>").format(name, value, unit, at) for name, value, at in rows]
    return Markup('<dl class="single">{}</dl>').format(Markup("").join(items))


def overlaid(groups: Mapping[str, Sequence[RunContents]]) -> list[Drawing]:
    """A chart for each metric that the runs logged: held-out where all evaluated more than once, else training.

    Args:
        groups: name → its runs; of several (seeds) the mean is drawn, with smallest and largest as a band.
    """
    shown = dict(list(groups.items())[:MOST_RUNS])
    runs = [run for group in shown.values() for run in group]
    online = any("reward" in row for run in runs for row in run.train)
    found = []
    for metric, title, unit in _OVERLAID:
        if online and metric == "loss":
            continue
        held_out = all(len(values_of(run.evaluations, metric)) > 1 for run in runs if run.train)
        series = [
            line
            for (name, group), colour in zip(shown.items(), COLOURS)
            if (line := _mean_curve(name, group, metric, colour, held_out=held_out))
        ]
        title = f"{title}, {'held-out' if held_out else 'training'}"
        found.append(_chart(f"overlaid-{metric.replace('/', '-')}", title, unit, series))
    return _drawn(found)


def binned(values: Sequence[Value], name: str, colour: str, most: int = _MOST_POINTS) -> Series:
    """A training curve. Beyond `most` values each point is the mean of a bin, with its extremes as a band.

    A bin with a value that was not finite is a gap, so that no average hides it.
    """
    if len(values) <= most:
        return curve(name, values, colour)
    size = -(-len(values) // most)
    means: list[Value] = []
    extremes: list[tuple[float | None, float | None]] = []
    for start in range(0, len(values), size):
        steps, ys = zip(*values[start : start + size], strict=True)
        gap = any(y is None for y in ys)
        means.append((statistics.fmean(steps), None if gap else statistics.fmean(ys)))
        extremes.append((None, None) if gap else (min(ys), max(ys)))
    return curve(f"{name} (mean of {size} steps)", means, colour, ends=extremes, band=True)


def _drawn(charts: Sequence[Chart]) -> list[Drawing]:
    return [(chart.title, drawn(chart)) for chart in charts if chart.series]


def _chart(
    key: str,
    title: str,
    unit: str,
    series: list[Series],
    levels: Sequence[tuple[float, str]] = (),
    scale: ScaleName = "linear",
) -> Chart:
    return Chart(f"chart-{key}", title, series, Axis(unit, scale, percent=unit.startswith("share of"), levels=levels))


def _loss_charts(contents: RunContents) -> list[Chart]:
    stage = stage_of(contents)
    ranked = "Answers rewarded as labelled" if stage == "kto" else "Pairs ranked as labelled"
    share = f"share of {nouns(stage)}"
    if any("ref_logps/chosen" in row for row in (*contents.train, *contents.evaluations)):
        title, unit = "Log-probability against the reference", "nats per completion"
        logps = _by_side(contents, _log_ratios)
    else:
        title, unit = "Log-probability of held-out answers", "nats, change since the first evaluation"
        logps = _change_since_first(contents)
    return [
        _chart("loss", "Loss", "nats per token" if stage == "sft" else "loss per example", _both(contents, "loss")),
        _chart(
            "rewards",
            "Rewards",
            "reward" if stage == "rm" else "β × log-ratio to the reference",
            _by_side(contents, lambda rows, side: values_of(rows, f"rewards/{side}")),
        ),
        _chart("margins", "Reward margin", "chosen − rejected", _both(contents, "rewards/margins")),
        _chart("accuracies", ranked, share, _both(contents, "rewards/accuracies"), (_CHANCE,)),
        _chart("error", "Error of the predicted score", "absolute", _both(contents, "absolute_error")),
        _chart("drift", title, unit, logps),
    ]


def _sampling_charts(contents: RunContents) -> list[Chart]:
    limit = contents.find("config.max_new_tokens")
    at_limit = [(float(limit), "max_new_tokens")] if is_number(limit) else []
    return [
        _chart("reward", "Reward", "mean of the answers", _both(contents, "reward")),
        _chart("kl", "KL to the reference", "nats per answer", _both(contents, "kl")),
        _chart("length", "Length of answers", "tokens", _both(contents, "length"), at_limit),
        _chart("entropy", "Entropy", "nats per token", _both(contents, "entropy")),
        _chart("ended", "Answers that end their turn", "share of answers", _both(contents, "ended")),
    ]


def _train(contents: RunContents, metric: str) -> list[Series]:
    return _line(values_of(contents.train, metric), "train", "a")


def _both(contents: RunContents, metric: str) -> list[Series]:
    """Training and held-out values of a metric; the latter with intervals where all rows have prompts enough."""
    rows = [row for row in contents.evaluations if metric in row]
    intervals = [held_out_interval(row, metric) for row in rows]
    ends = [(one.low, one.high) for one in intervals if one is not None]
    if len(ends) < len(rows) or any(row["prompts"] < FEWEST_PROMPTS for row in rows):
        ends = []
    return _train(contents, metric) + _marks(values_of(rows, metric), "held-out", "c", ends)


def _line(values: Sequence[Value], name: str, colour: str) -> list[Series]:
    """A line of training values, if there are any."""
    return [binned(values, name, colour)] if values else []


def _marks(values: Sequence[Value], name: str, colour: str, ends: Sequence[tuple[float, float]] = ()) -> list[Series]:
    """Marks of held-out values, if there are any."""
    return [curve(name, values, colour, marks=True, ends=ends)] if values else []


def _by_side(contents: RunContents, values: Callable[[Sequence[MetricRow], str], list[Value]]) -> list[Series]:
    """The curves of chosen and rejected, from a function of rows and side."""
    found = []
    for side, colour in _SIDES:
        found += _line(values(contents.train, side), side, colour)
        found += _marks(values(contents.evaluations, side), f"{side}, held-out", colour)
    return found


def _log_ratios(rows: Sequence[MetricRow], side: str) -> list[Value]:
    """log π − log π_ref of the same answers."""
    reference = dict(values_of(rows, f"ref_logps/{side}"))
    pairs = [(x, y, reference.get(x)) for x, y in values_of(rows, f"logps/{side}") if x in reference]
    return [(x, y - ref if y is not None and ref is not None else None) for x, y, ref in pairs]


def _change_since_first(contents: RunContents) -> list[Series]:
    """log π of held-out answers minus its first value; training steps see different answers and are not comparable."""
    found = []
    for side, colour in _SIDES:
        logps = values_of(contents.evaluations, f"logps/{side}")
        start = next((y for _, y in logps if y is not None), None)
        if len(logps) > 1 and start is not None:
            changes = [(x, None if y is None else y - start) for x, y in logps]
            found += _marks(changes, f"{side}, held-out", colour)
    return found


def _mean_curve(name: str, runs: Sequence[RunContents], metric: str, colour: str, *, held_out: bool) -> Series | None:
    """The mean over runs at each step that any of them has."""
    at: dict[float, list[float]] = {}
    for run in runs:
        for step, value in values_of(run.evaluations if held_out else run.train, metric):
            if value is not None:
                at.setdefault(step, []).append(value)
    if not at:
        return None
    several = any(len(values) > 1 for values in at.values())
    means = [(step, statistics.fmean(at[step])) for step in sorted(at)]
    ranges = [(min(at[step]), max(at[step])) for step in sorted(at)] if several else []
    return curve(name, means, colour, marks=held_out, ends=ranges, band=several)
