"""Which charts a run gets: its metrics, train and held-out, as `svg.Chart`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from markupsafe import Markup

from palate.report.contents import Row, RunContents, values_of
from palate.report.held_out import FEWEST_PROMPTS, held_out_interval
from palate.report.page import visible
from palate.report.scales import number
from palate.report.stages import ONLINE, nouns, stage_of
from palate.report.svg import Chart, Estimate, Series, interval_chart, line_chart

_BINS = 240
"""More points than this are averaged in bins, with the smallest and largest of each shaded behind the line."""


class _Plan(NamedTuple):
    """A chart to draw where its series have anything; `levels` are lines across it."""

    key: str
    title: str
    unit: str
    series: list[Series]
    levels: Sequence[tuple[float, str]] = ()


def charts(contents: RunContents) -> list[tuple[str, Markup]]:
    """(title, drawing) of every chart that has something to show: `lead_charts`, then `more_charts`."""
    return [*lead_charts(contents), *more_charts(contents)]


def lead_charts(contents: RunContents) -> list[tuple[str, Markup]]:
    """What the stage is judged by: reward, KL, length and entropy of sampled answers, or loss and rewards."""
    return _drawn(_sampling_plans(contents) if stage_of(contents) in ONLINE else _loss_plans(contents))


def more_charts(contents: RunContents) -> list[tuple[str, Markup]]:
    """What helps to see why: of online stages the loss, of all stages gradient norm and learning rate."""
    train, held_out = contents.train, contents.evaluations
    plans = []
    if stage_of(contents) in ONLINE:
        plans = [
            _Plan("loss", "Loss", "loss per answer", _both(train, held_out, "loss")),
            _Plan("value-loss", "Value loss", "squared error", _both(train, (), "value_loss")),
            _Plan("spread", "Spread of rewards in a group", "standard deviation", _both(train, (), "reward_spread")),
            _Plan("clip-fraction", "Clipped tokens", "share of tokens", _both(train, (), "clip_fraction")),
        ]
    return _drawn(
        [
            *plans,
            _Plan("grad-norm", "Gradient norm before clipping", "norm", _both(train, (), "grad_norm")),
            _Plan("learning-rate", "Learning rate", "per step", _both(train, (), "learning_rate")),
        ]
    )


def _loss_plans(contents: RunContents) -> list[_Plan]:
    train, held_out, stage = contents.train, contents.evaluations, stage_of(contents)
    pair = (("chosen", "b"), ("rejected", "c"))
    reference = any("ref_logps/chosen" in row for row in (*train, *held_out))
    per = "nats per token" if stage == "sft" else "loss per example"
    per = "nats per token" if stage == "sft" else "loss per example"
    ranked = "Answers on the right side" if stage == "kto" else "Pairs ranked as labelled"
    return [
        _Plan("loss", "Loss", per, _both(train, held_out, "loss")),
        _Plan(
            "rewards",
            "Rewards",
            "reward" if stage == "rm" else "β × log-ratio to the reference",
            _sides(train, held_out, "rewards/{}", pair),
        ),
        _Plan("margins", "Reward margin", "chosen − rejected", _both(train, held_out, "rewards/margins")),
        _Plan(
            "accuracies",
            ranked,
            f"share of {nouns(stage)}",
            _both(train, held_out, "rewards/accuracies"),
            ((0.5, "chance"),),
        ),
        _Plan("error", "Error of the predicted score", "absolute", _both(train, held_out, "absolute_error")),
        _Plan("drift", "Log-probability against the reference", "nats per completion", _drift(train, held_out, pair))
        if reference
        else _Plan(
            "drift",
            "Log-probability of held-out answers",
            "nats, change since the first evaluation",
            _change_since_first(held_out, pair),
        ),
    ]


def _sampling_plans(contents: RunContents) -> list[_Plan]:
    train, held_out = contents.train, contents.evaluations
    limit = contents.find("config.max_new_tokens")
    at_limit = ((float(limit), "max_new_tokens"),) if isinstance(limit, int | float) else ()
    return [
        _Plan("reward", "Reward", "mean of the answers", _both(train, held_out, "reward")),
        _Plan("kl", "KL to the reference", "nats per answer", _both(train, held_out, "kl")),
        _Plan("length", "Length of answers", "tokens", _both(train, held_out, "length"), at_limit),
        _Plan("entropy", "Entropy", "nats per token", _both(train, held_out, "entropy")),
        _Plan("ended", "Answers that end their turn", "share of answers", _both(train, held_out, "ended")),
    ]


def _drawn(plans: Sequence[_Plan]) -> list[tuple[str, Markup]]:
    return [
        (
            plan.title,
            drawn(
                Chart(
                    key=f"chart-{plan.key}",
                    title=plan.title,
                    description=describe(plan.title, plan.series),
                    unit=plan.unit,
                    series=plan.series,
                    percent=plan.unit.startswith("share of"),
                    levels=plan.levels,
                    log=plan.key == "grad-norm" and _spans_decades(plan.series),
                )
            ),
        )
        for plan in plans
        if plan.series
    ]


def drawn(chart: Chart) -> Markup:
    """The chart as SVG, or as numbers where every series has a single value: one dot shows no curve."""
    if any(len(series.x) > 1 for series in chart.series):
        return line_chart(chart)
    rows = [
        (series.name, _as_text(value, chart), f"at {chart.x_label} {number(at)}")
        for series in chart.series
        for at, value in zip(series.x, series.y, strict=True)
    ]
    rows += [(name, _as_text(level, chart), "") for level, name in chart.levels if name]
    unit = "" if chart.percent else chart.unit
    items = [Markup("<dt>{}</dt><dd><b>{}</b> {} {}</dd>").format(name, text, unit, at) for name, text, at in rows]
    return Markup('<dl class="single">{}</dl>').format(Markup("").join(items))


def _as_text(value: float | None, chart: Chart) -> str:
    return f"{100 * value:.1f} %" if chart.percent and value is not None else number(value)


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
    found = _lines(values_of(train, metric), values_of(held_out, metric), "train", "held-out", ("a", "c"))
    return [_with_intervals(one, held_out, metric) if one.points else one for one in found]


def _with_intervals(series: Series, held_out: Sequence[Row], metric: str) -> Series:
    """Held-out values with error bars, where there are prompts enough for an interval to mean something."""
    rows = [row for row in held_out if metric in row]
    found = [held_out_interval(row, metric) for row in rows]
    if any(one is None for one in found) or any(row["prompts"] < FEWEST_PROMPTS for row in rows):
        return series
    return replace(series, low=[one.low for one in found if one], high=[one.high for one in found if one])


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
    """log π − log π_ref of the same answers."""
    found = []
    for side, colour in sides:
        curves = _drift_of(train, side), _drift_of(held_out, side)
        found += _lines(*curves, side, f"{side}, held-out", (colour, colour))
    return found


def _drift_of(rows: Sequence[Row], side: str) -> list[tuple[float, float | None]]:
    policy, reference = values_of(rows, f"logps/{side}"), dict(values_of(rows, f"ref_logps/{side}"))
    pairs = [(x, y, reference.get(x)) for x, y in policy if x in reference]
    return [(x, y - r if y is not None and r is not None else None) for x, y, r in pairs]


def _change_since_first(held_out: Sequence[Row], sides: Sequence[tuple[str, str]]) -> list[Series]:
    """log π of held-out answers less its first value; training steps see other answers each, and are not compared."""
    found = []
    for side, colour in sides:
        policy = values_of(held_out, f"logps/{side}")
        start = next((y for _, y in policy if y is not None), None)
        if len(policy) > 1 and start is not None:
            changes = [None if y is None else y - start for _, y in policy]
            found.append(Series(f"{side}, held-out", [x for x, _ in policy], changes, colour, points=True))
    return found


def _spans_decades(series: Sequence[Series]) -> bool:
    positive = [value for one in series for value in one.y if value is not None and value > 0]
    return bool(positive) and max(positive) > 50 * min(positive)
