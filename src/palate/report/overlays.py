"""Curves of several runs in one chart, the runs that differ only in their seed as one curve."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from palate.report.charts import describe, drawn
from palate.report.contents import RunContents, values_of
from palate.report.svg import Chart, Series

_COLOURS = ("a", "b", "c", "e", "f", "g", "h")
MOST_CURVES = len(_COLOURS)
_METRICS = (
    ("reward", "Reward", "mean of the answers"),
    ("loss", "Loss", "loss per example"),
    ("rewards/accuracies", "Pairs ranked as labelled", "share of pairs"),
    ("rewards/margins", "Reward margin", "chosen − rejected"),
    ("kl", "KL to the reference", "nats per answer"),
)


def overlaid(groups: Mapping[str, Sequence[RunContents]]) -> list[tuple[str, Markup]]:
    """(title, drawing) of each metric that the runs logged, held out where they evaluated more than once.

    Args:
        groups: name → its runs; of several (seeds) the mean is drawn, in the shade of smallest and largest.
    """
    shown = dict(list(groups.items())[:MOST_CURVES])
    online = any("reward" in row for runs in shown.values() for run in runs for row in run.train)
    found = []
    for metric, title, unit in _METRICS:
        if online and metric == "loss":
            continue
        held_out = all(
            len(values_of(run.evaluations, metric)) > 1 for runs in shown.values() for run in runs if run.train
        )
        series = [
            one
            for (name, runs), colour in zip(shown.items(), _COLOURS)
            if (one := _mean_curve(name, runs, metric, colour, held_out=held_out))
        ]
        if series:
            full = f"{title}, {'held-out' if held_out else 'training'}"
            chart = Chart(
                key=f"chart-overlaid-{metric.replace('/', '-')}",
                title=full,
                description=describe(full, series),
                unit=unit,
                series=series,
                percent=unit.startswith("share of"),
            )
            found.append((full, drawn(chart)))
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
    steps = sorted(at)
    several = any(len(values) > 1 for values in at.values())
    return Series(
        name,
        steps,
        [statistics.fmean(at[step]) for step in steps],
        colour,
        points=held_out,
        low=[min(at[step]) for step in steps] if several else None,
        high=[max(at[step]) for step in steps] if several else None,
        band=several,
    )
