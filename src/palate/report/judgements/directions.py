"""Whether each curve went in the expected direction, and the verdict on a run in one line."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scipy import special

from palate.charts.text import number
from palate.report.contents import MetricRow, RunContents, is_number, values_of
from palate.report.intervals import FEWEST_PROMPTS, SHARES, held_out_interval
from palate.report.judgements.collapse import at_limit, collapse_symptoms, large_kl
from palate.report.judgements.stages import EXPECTED, ONLINE, Expectation, counted, stage_of
from palate.stats import Interval
from palate.stats.intervals import independent_difference

Verdict: TypeAlias = Literal["right", "wrong", "unclear", "unknown"]

_LEAST = 3
"""Training steps in each of the two means that are compared."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Where one metric went.

    Attributes:
        expected: the metric and its expected direction.
        split: `train` or `eval`.
        start: mean over the first fifth of the training rows; in evaluation the known start, else the first value.
        end: mean over the last fifth; in evaluation the last value.
        verdict: `unclear` when the change is within the noise or its interval includes 0, `unknown` when there is
            nothing to compare.
        change: the 95 % interval of end − start on held-out rows; None if unknown.
        rows, prompts: of the last evaluation; 0 if unknown.
    """

    expected: Expectation
    split: str
    start: float | None
    end: float | None
    verdict: Verdict
    change: tuple[float, float] | None = None
    rows: int = 0
    prompts: int = 0

    @property
    def metric(self) -> str:
        return self.expected.metric

    @property
    def moved(self) -> str:
        """`loss rose`, `reward fell`; for the verdicts right and wrong."""
        up = (self.expected.should > 0) == (self.verdict == "right")
        return f"{self.expected.label.lower()} {'rose' if up else 'fell'}"


def directions(contents: RunContents) -> list[Direction]:
    """A `Direction` for each logged metric that the stage is judged by, training first."""
    found = []
    for expected in EXPECTED[stage_of(contents)]:
        values = [value for _, value in values_of(contents.train, expected.metric) if value is not None]
        if values:
            found.append(Direction(expected, "train", *judge(values, expected.should)))
    for expected in EXPECTED[stage_of(contents)]:
        rows = [row for row in contents.evaluations if is_number(row.get(expected.metric))]
        if rows:
            found.append(_held_out(contents, expected, rows))
    return found


def by_metric(judged: Sequence[Direction]) -> list[dict[str, Direction]]:
    """The directions of each metric by split (`train`, `eval`)."""
    found: dict[str, dict[str, Direction]] = {}
    for direction in judged:
        found.setdefault(direction.metric, {})[direction.split] = direction
    return list(found.values())


def verdict(contents: RunContents, judged: Sequence[Direction]) -> tuple[Verdict, str]:
    """The run in one line, by: collapsed answers; a fallen reward or a large KL; held-out rows; training."""
    note = at_limit(contents)
    after = f" {note[0].upper()}{note[1:]}." if note else ""
    # A reward that fell in training counts even with few held-out prompts.
    alarms = [_fall(one) for one in judged if one.metric == "reward" and one.verdict == "wrong"]
    alarms += [kl] if (kl := large_kl(contents)) else []
    if symptoms := collapse_symptoms(contents):
        return "wrong", f"The answers have collapsed: {'; '.join([*symptoms, *alarms])}."
    if alarms:
        return "wrong", f"Not as expected: {'; '.join(alarms)}.{after}"
    training = _of_training([one for one in judged if one.split == "train" and one.verdict != "unknown"])
    evaluated = [one for one in judged if one.split == "eval" and one.verdict != "unknown"]
    kind, line = _of_evaluations(contents, evaluated, training) if evaluated else training
    return kind, f"{line}{after}"


def judge(values: Sequence[float], should: Literal[-1, 1]) -> tuple[float | None, float | None, Verdict]:
    """Start, end and verdict of a training series that should rise (+1) or fall (−1).

    Start and end are the means of the first and last fifth, at least three steps each, since every step sees other
    rows. A change counts when a two-sided t test between the two finds it at 5 %.
    """
    if len(values) < 2 * _LEAST:
        return values[0] if values else None, values[-1] if values else None, "unknown"
    window = max(_LEAST, len(values) // 5)
    first, last = values[:window], values[-window:]
    start, end = statistics.fmean(first), statistics.fmean(last)
    error = math.sqrt((statistics.variance(first) + statistics.variance(last)) / window)
    noise = float(special.stdtrit(2 * (window - 1), 0.975)) * error
    moved = should * (end - start)
    if abs(moved) <= max(noise, 1e-6 * max(1.0, abs(start))):
        return start, end, "unclear"
    return start, end, "right" if moved > 0 else "wrong"


def _held_out(contents: RunContents, expected: Expectation, rows: Sequence[MetricRow]) -> Direction:
    """The last evaluation against the known start, or against the first evaluation."""
    metric, last = expected.metric, rows[-1]
    known = _known_start(contents, metric)
    start = known or held_out_interval(rows[0], metric)
    first = known.estimate if known else float(rows[0][metric])
    end = held_out_interval(last, metric)
    count, prompts = (int(last[name]) if is_number(last.get(name)) else 0 for name in ("rows", "prompts"))
    if known is None and len(rows) < 2:
        return Direction(expected, "eval", None, float(last[metric]), "unknown", None, count, prompts)
    if start is None or end is None:
        return Direction(expected, "eval", first, float(last[metric]), "unclear", None, count, prompts)
    # Evaluations see the same rows, so the two are correlated and the interval is too wide rather than too narrow.
    change = independent_difference(end, start)
    low, high = change.low, change.high
    verdict: Verdict = "unclear"
    # 1e-6: rounding is no change, however narrow the interval.
    if (low > 1e-6 or high < -1e-6) and prompts >= FEWEST_PROMPTS:
        verdict = "right" if (low > 0) == (expected.should > 0) else "wrong"
    return Direction(expected, "eval", first, end.estimate, verdict, (low, high), count, prompts)


def _known_start(contents: RunContents, metric: str) -> Interval | None:
    """0 for rewards and ½ for accuracy where the policy starts as its reference."""
    if stage_of(contents) in {"rm", "sft", *ONLINE} or not metric.startswith("rewards/"):
        return None
    first = next((value for _, value in values_of(contents.train, "rewards/margins")), None)
    if first is None or abs(first) >= 1e-6:
        return None
    start = 0.5 if metric in SHARES else 0.0
    return Interval(start, start, start, 0.95, 0)


def _fall(direction: Direction) -> str:
    where = "on held-out prompts" if direction.split == "eval" else "in training"
    return f"reward fell {where} from {number(direction.start)} to {number(direction.end)}"


def _of_evaluations(
    contents: RunContents, evaluated: Sequence[Direction], training: tuple[Verdict, str]
) -> tuple[Verdict, str]:
    rows = counted(stage_of(contents), evaluated[0].rows or None, evaluated[0].prompts or None)
    unclear = [one.expected.label.lower() for one in evaluated if one.verdict == "unclear"]
    if wrong := _moved(evaluated, "wrong"):
        return "wrong", f"Not as expected on {rows}: {wrong}."
    if right := _moved(evaluated, "right"):
        return "right", f"As expected on {rows}: {right}." + (
            f" Inconclusive: {', '.join(unclear)}." if unclear else ""
        )
    why = "every 95 % interval includes no change"
    if all(one.change is None for one in evaluated):
        why = "the evaluations logged no standard errors"
    elif 0 < evaluated[0].prompts < FEWEST_PROMPTS:
        why = f"fewer than {FEWEST_PROMPTS} prompts"
    kind, line = training
    also = "" if kind == "unknown" else f" {line}"
    return "wrong" if kind == "wrong" else "unclear", f"Inconclusive on {rows}: {why}.{also}"


def _of_training(training: Sequence[Direction]) -> tuple[Verdict, str]:
    if not training:
        return "unknown", "Too few logged steps for a verdict."
    if wrong := _moved(training, "wrong"):
        return "wrong", f"Not as expected in training: {wrong}."
    if right := _moved(training, "right"):
        return "right", f"As expected in training: {right}."
    return "unclear", "No clear change in training: every curve stays within its noise."


def _moved(judged: Sequence[Direction], kind: Verdict) -> str:
    """What the directions with that verdict did: `loss fell, margin rose`."""
    return ", ".join(one.moved for one in judged if one.verdict == kind)
