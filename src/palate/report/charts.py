"""Which charts a run gets: its metrics, train and held-out, as `svg.Chart`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from palate.report.contents import Row, RunContents, values_of
from palate.report.page import visible
from palate.report.scales import number
from palate.report.svg import Chart, Estimate, Series, interval_chart, line_chart

_BINS = 240
"""More points than this are averaged in bins, with the smallest and largest of each shaded behind the line."""


def charts(contents: RunContents) -> list[tuple[str, Markup]]:
    """(title, svg) of every chart that has something to show."""
    train, held_out = contents.train, contents.evaluations
    pair = (("chosen", "b"), ("rejected", "c"))
    accuracies = _both(train, held_out, "rewards/accuracies")
    plans: list[tuple[str, str, str, list[Series]]] = [
        ("loss", "Loss", "loss per example", _both(train, held_out, "loss")),
        ("rewards", "Rewards", "β × log-ratio to the reference", _sides(train, held_out, "rewards/{}", pair)),
        ("margins", "Reward margin", "chosen − rejected", _both(train, held_out, "rewards/margins")),
        ("accuracies", "Pairs ranked as labelled", "share of pairs", accuracies),
        ("drift", "Log-probability against the start", "nats per completion", _drift(train, held_out, pair)),
        ("grad-norm", "Gradient norm before clipping", "norm", _both(train, (), "grad_norm")),
        ("learning-rate", "Learning rate", "per step", _both(train, (), "learning_rate")),
    ]
    drawn = []
    for key, title, unit, series in plans:
        if series:
            chart = Chart(
                key=f"chart-{key}",
                title=title,
                description=describe(title, series),
                unit=unit,
                series=series,
                percent=key == "accuracies",
                levels=((0.5, "chance"),) if key == "accuracies" else (),
                log=key == "grad-norm" and _spans_decades(series),
            )
            drawn.append((title, line_chart(chart)))
    return drawn


def accuracy_chart(accuracy: Mapping[str, Any], *, key: str = "chart-accuracy") -> Markup | None:
    """Preference accuracy before and after with intervals, from `accuracy.json`; None where it has none."""
    kinds = (
        ("reference", "Before (reference)", "d"),
        ("policy", "After (policy)", "a"),
        ("implied", "Implied reward", "b"),
        ("reward", "Reward model", "a"),
    )
    found = [one for kind, label, colour in kinds for one in estimate(label, accuracy.get(kind), colour)]
    dimensions = accuracy.get("dimensions")
    for name, one in dimensions.items() if isinstance(dimensions, Mapping) else ():
        found += estimate(f"Implied reward, {name}", one.get("implied") if isinstance(one, Mapping) else None, "c")
    if not found:
        return None
    told = "; ".join(f"{e.label} {100 * e.value:.1f} % ({100 * e.low:.1f} to {100 * e.high:.1f})" for e in found)
    return interval_chart(key, "Preference accuracy on held-out pairs", f"{told}.", found, level=(0.5, "chance"))


def estimate(label: str, interval: Any, colour: str) -> list[Estimate]:
    """The row of an `{"estimate", "low", "high"}` mapping for an interval chart; none for anything else."""
    if not isinstance(interval, Mapping):
        return []
    ends = [float(end) for key in ("estimate", "low", "high") if isinstance(end := interval.get(key), int | float)]
    return [Estimate(visible(label), ends[0], ends[1], ends[2], colour)] if len(ends) == 3 else []


def describe(title: str, series: Sequence[Series]) -> str:
    """What a chart shows, in words, for a reader who cannot see it."""
    told = []
    for one in series:
        finite = [(at, value) for at, value in zip(one.x, one.y, strict=True) if value is not None]
        if not finite:
            told.append(f"{one.name} has no finite value")
        elif len(finite) == 1:
            told.append(f"{one.name} is {number(finite[0][1])} at step {number(finite[0][0])}")
        else:
            (x0, y0), (x1, y1) = finite[0], finite[-1]
            told.append(f"{one.name} goes from {number(y0)} at step {number(x0)} to {number(y1)} at step {number(x1)}")
    return f"{title}: " + "; ".join(told) + "."


def binned(points: Sequence[tuple[float, float | None]], name: str, colour: str, most: int = _BINS) -> Series:
    """A training line. Beyond `most` points each one drawn is the mean of a bin, in the shade of its extremes.

    A bin with a value that was not finite is a gap as a whole, so that no average hides it.
    """
    if len(points) <= most:
        return Series(name, [x for x, _ in points], [y for _, y in points], colour)
    size = -(-len(points) // most)
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    xs = [sum(x for x, _ in one) / len(one) for one in bins]
    kept = [[y for _, y in one if y is not None] if all(y is not None for _, y in one) else [] for one in bins]
    return Series(
        f"{name} (mean of {size} steps)",
        xs,
        [sum(ys) / len(ys) if ys else None for ys in kept],
        colour,
        low=[min(ys) if ys else None for ys in kept],
        high=[max(ys) if ys else None for ys in kept],
        band=True,
    )


def _both(train: Sequence[Row], held_out: Sequence[Row], metric: str) -> list[Series]:
    return _lines(values_of(train, metric), values_of(held_out, metric), "train", "held-out", ("a", "c"))


def _sides(
    train: Sequence[Row], held_out: Sequence[Row], pattern: str, sides: Sequence[tuple[str, str]]
) -> list[Series]:
    found = []
    for side, colour in sides:
        metric = pattern.format(side)
        names = (side, f"{side}, held-out")
        found += _lines(values_of(train, metric), values_of(held_out, metric), *names, (colour, colour))
    return found


def _lines(
    train: Sequence[tuple[float, float | None]],
    held_out: Sequence[tuple[float, float | None]],
    train_name: str,
    held_out_name: str,
    colours: tuple[str, str],
) -> list[Series]:
    found = [binned(train, train_name, colours[0])] if train else []
    if held_out:
        found.append(Series(held_out_name, [x for x, _ in held_out], [y for _, y in held_out], colours[1], points=True))
    return found


def _drift(train: Sequence[Row], held_out: Sequence[Row], sides: Sequence[tuple[str, str]]) -> list[Series]:
    """log π − log π_ref where the reference was logged, else the change since the first value."""
    found = []
    for side, colour in sides:
        curves = _drift_of(train, side), _drift_of(held_out, side)
        found += _lines(*curves, side, f"{side}, held-out", (colour, colour))
    return found


def _drift_of(rows: Sequence[Row], side: str) -> list[tuple[float, float | None]]:
    policy, reference = values_of(rows, f"logps/{side}"), dict(values_of(rows, f"ref_logps/{side}"))
    if reference:
        pairs = [(x, y, reference.get(x)) for x, y in policy if x in reference]
        return [(x, y - r if y is not None and r is not None else None) for x, y, r in pairs]
    start = next((y for _, y in policy if y is not None), None)
    # A single value has no change to show.
    return (
        [(x, y - start if y is not None and start is not None else None) for x, y in policy] if len(policy) > 1 else []
    )


def _spans_decades(series: Sequence[Series]) -> bool:
    positive = [value for one in series for value in one.y if value is not None and value > 0]
    return bool(positive) and max(positive) > 50 * min(positive)
