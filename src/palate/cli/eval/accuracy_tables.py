"""Tables of `palate eval accuracy`: accuracies by group, and the reliability curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from palate.cli.columns import table

if TYPE_CHECKING:
    from palate.evaluation.accuracy.preference import Accuracy
    from palate.evaluation.accuracy.rewards import RewardAccuracy
    from palate.stats import Calibration, Interval

_KINDS = (("policy", "policy"), ("implied", "implied reward"), ("reward", "accuracy"))
_MOST = 20
"""Groups of a grouping that are printed; --json has all of them."""


def accuracy_tables(found: Accuracy | RewardAccuracy) -> Iterator[str]:
    """A table for each grouping, and one of the calibration if it was measured."""
    groupings: Mapping[str, Mapping[str, Any]] = found.groups  # of GroupAccuracy or of GroupReward
    for grouping, groups in groupings.items():
        kinds = [(kind, label) for kind, label in _KINDS if hasattr(next(iter(groups.values())), kind)]
        rows = [
            [name, f"{group.n}", f"{group.prompts}", *(_percent(getattr(group, kind)) for kind, _ in kinds)]
            for name, group in list(groups.items())[:_MOST]
        ]
        names = [grouping, "pairs", "prompts", *(f"{label}, %" for _, label in kinds)]
        text = table(names, rows, right=range(1, len(names)))
        yield f"{text}\n… and {len(groups) - _MOST} more in --json" if len(groups) > _MOST else text
    if found.calibration is not None:
        yield _calibration(found.calibration)


def _calibration(found: Calibration) -> str:
    names = ["confidence", "pairs", "mean, %", "right, %"]
    rows = [
        [
            f"{100 * one.low:.0f} to {100 * one.high:.0f} %",
            f"{one.n}",
            f"{100 * one.predicted:.1f}",
            _percent(one.observed),
        ]
        for one in found.bins
    ]
    return table(names, rows, right=range(1, len(names)))


def _percent(interval: Interval) -> str:
    """`63.2 (54.0 to 71.5)`."""
    return f"{100 * interval.estimate:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
