"""Do the curves go where they should? chosen up, rejected down, margins up, loss down; a wrong one is said out loud."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scipy import special

from palate.report.contents import RunContents, values_of

Verdict: TypeAlias = Literal["right", "wrong", "unclear", "unknown"]

_LEAST = 3
"""Training steps in each of the two means that are compared."""

_EXPECTED: dict[str, tuple[str, Literal[-1, 1], str]] = {
    "loss": ("Loss", -1, "lower learning_rate, or look at the data: the labels may contradict each other"),
    "rewards/chosen": (
        "Reward of chosen",
        1,
        "the model is moving away from the good answers too; "
        "add pref_ftx: 0.1, use pref_loss: dpop, raise pref_beta, or train for fewer steps",
    ),
    "rewards/rejected": (
        "Reward of rejected",
        -1,
        "the model is learning the worse answers as well; "
        "check that chosen and rejected are not swapped or nearly equal",
    ),
    "rewards/margins": (
        "Margin",
        1,
        "the model is learning the opposite of the labels; check that chosen and rejected are not swapped",
    ),
    "rewards/accuracies": (
        "Accuracy of the margin",
        1,
        "the model ranks fewer pairs as labelled than before; check the labels, and lower learning_rate",
    ),
}


@dataclass(frozen=True, slots=True)
class Direction:
    """Where one metric went.

    Attributes:
        metric: its name in metrics.jsonl.
        label: its name for people.
        should: +1 should rise, −1 should fall.
        split: `train` or `eval`.
        start: mean over the first fifth of the rows.
        end: mean over the last fifth.
        verdict: `unclear` when the change is within its own noise, `unknown` when there is nothing to compare.
        advice: what to do when the verdict is `wrong`.
    """

    metric: str
    label: str
    should: Literal[-1, 1]
    split: str
    start: float | None
    end: float | None
    verdict: Verdict
    advice: str


def directions(contents: RunContents) -> list[Direction]:
    """One `Direction` for each metric that has an expected direction and was logged, training first."""
    found = []
    for split, rows in (("train", contents.train), ("eval", contents.evaluations)):
        for metric, (label, should, advice) in _EXPECTED.items():
            values = [value for _, value in values_of(rows, metric) if value is not None]
            if not values:
                continue
            if len(values) == 1 and split == "eval" and _started_at_zero(contents, metric):
                values = [0.0, *values]  # rewards are 0 by definition where the policy starts as its reference
            start, end, verdict = judge(values, should, noisy=split == "train")
            found.append(Direction(metric, label, should, split, start, end, verdict, advice))
    return found


def by_metric(judged: Sequence[Direction]) -> list[dict[str, Direction]]:
    """The directions of each metric by split (`train`, `eval`), one entry a metric."""
    found: dict[str, dict[str, Direction]] = {}
    for one in judged:
        found.setdefault(one.metric, {})[one.split] = one
    return list(found.values())


def verdict(judged: Sequence[Direction]) -> tuple[Verdict, str]:
    """All directions in one line: held-out rows decide where they can, else training rows."""
    splits = [[one for one in judged if one.split == split and one.verdict != "unknown"] for split in ("eval", "train")]
    decisive = next((found for found in splits if found), [])
    if not decisive:
        return "unknown", "Too few logged steps to say where the curves are going."
    where = "on held-out pairs" if decisive[0].split == "eval" else "in training"
    wrong = [one for one in decisive if one.verdict == "wrong"]
    if wrong:
        moves = ", ".join(f"{one.label.lower()} {'fell' if one.should > 0 else 'rose'}" for one in wrong)
        return "wrong", f"Not as it should be {where}: {moves}."
    right = [one for one in decisive if one.verdict == "right"]
    if not right:
        return "unclear", f"No clear change {where}: every curve stays within its own noise."
    moves = ", ".join(f"{one.label.lower()} {'rose' if one.should > 0 else 'fell'}" for one in right)
    return "right", f"As it should be {where}: {moves}."


def judge(
    values: Sequence[float], should: Literal[-1, 1], *, noisy: bool = True
) -> tuple[float | None, float | None, Verdict]:
    """Start, end and verdict of a series that should rise (+1) or fall (−1).

    Start and end are the means of the first and last fifth. `noisy` values (a training step sees other pairs each time)
    need three at least in each, and count as a change beyond a two-sided t test at 5 % between the two; others
    (evaluation sees the same pairs each time) count as they are.
    """
    least = _LEAST if noisy else 1
    if len(values) < 2 * least:
        return values[0] if values else None, values[-1] if values else None, "unknown"
    window = max(least, len(values) // 5)
    first, last = values[:window], values[-window:]
    start, end = statistics.fmean(first), statistics.fmean(last)
    noise = 0.0
    if noisy:
        error = math.sqrt((statistics.variance(first) + statistics.variance(last)) / window)
        noise = float(special.stdtrit(2 * (window - 1), 0.975)) * error
    change = should * (end - start)
    if abs(change) <= max(noise, 1e-6 * max(1.0, abs(start))):
        return start, end, "unclear"
    return start, end, "right" if change > 0 else "wrong"


def _started_at_zero(contents: RunContents, metric: str) -> bool:
    if metric not in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        return False
    first = next((value for _, value in values_of(contents.train, metric)), None)
    return first is not None and abs(first) < 1e-6
