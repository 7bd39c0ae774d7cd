"""Did the curves go where they should? A curve that went the other way, or answers that collapsed, come first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scipy import special

from palate.report.collapse import at_limit, collapse_signs, far_away
from palate.report.contents import Row, RunContents, values_of
from palate.report.held_out import FEWEST_PROMPTS, SHARES, change, exactly, held_out_interval
from palate.report.scales import number
from palate.report.stages import EXPECTED, ONLINE, Expectation, counted, stage_of
from palate.stats import Interval

Verdict: TypeAlias = Literal["right", "wrong", "unclear", "unknown"]

_LEAST = 3
"""Training steps in each of the two means that are compared."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Where one metric went.

    Attributes:
        expected: the metric and where it should go.
        split: `train` or `eval`.
        start: mean over the first fifth of the training rows; in evaluation what is known of the start, else the first.
        end: mean over the last fifth; in evaluation the last value.
        verdict: `unclear` when the change is within its own noise or its interval includes no change, `unknown` when
            there is nothing to compare.
        change: the 95 % interval of end − start on held-out rows, where there is one.
        rows, prompts: what the held-out figure rests on; 0 where it is not known.
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
        """`loss rose`, `reward fell`: only where the verdict is right or wrong."""
        up = (self.expected.should > 0) == (self.verdict == "right")
        return f"{self.expected.label.lower()} {'rose' if up else 'fell'}"


def directions(contents: RunContents) -> list[Direction]:
    """One `Direction` for each metric that the stage is judged by and that was logged, training first."""
    found = []
    for expected in EXPECTED[stage_of(contents)]:
        values = [value for _, value in values_of(contents.train, expected.metric) if value is not None]
        if values:
            found.append(Direction(expected, "train", *judge(values, expected.should)))
    for expected in EXPECTED[stage_of(contents)]:
        rows = [row for row in contents.evaluations if isinstance(row.get(expected.metric), int | float)]
        if rows:
            found.append(_held_out(contents, expected, rows))
    return found


def by_metric(judged: Sequence[Direction]) -> list[dict[str, Direction]]:
    """The directions of each metric by split (`train`, `eval`), one entry a metric."""
    found: dict[str, dict[str, Direction]] = {}
    for one in judged:
        found.setdefault(one.metric, {})[one.split] = one
    return list(found.values())


def verdict(contents: RunContents, judged: Sequence[Direction]) -> tuple[Verdict, str]:
    """The run in one line: collapsed answers first, then held-out rows where they are enough to say, then training."""
    signs, note = collapse_signs(contents), at_limit(contents)
    after = f" {note[0].upper()}{note[1:]}." if note else ""
    fell = [one for one in judged if one.metric == "reward" and one.verdict == "wrong"]
    fallen = [_where_it_fell(one) for one in fell]  # in training too, however few the held-out prompts are
    far = [far] if (far := far_away(contents)) else []
    if signs:
        return "wrong", f"The answers have collapsed: {'; '.join([*signs, *fallen, *far])}."
    if fallen or far:
        return "wrong", f"Not as it should be: {'; '.join([*fallen, *far])}.{after}"
    evaluated = [one for one in judged if one.split == "eval" and one.verdict != "unknown"]
    training = [one for one in judged if one.split == "train" and one.verdict != "unknown"]
    kind, line = _of_training(training)
    if not evaluated:
        return kind, f"{line}{after}"
    rows = counted(stage_of(contents), evaluated[0].rows or None, evaluated[0].prompts or None)
    wrong, right = ([one for one in evaluated if one.verdict == kind] for kind in ("wrong", "right"))
    if wrong:
        return "wrong", f"Not as it should be on {rows}: {', '.join(one.moved for one in wrong)}.{after}"
    if right:
        unclear = [one.expected.label.lower() for one in evaluated if one.verdict == "unclear"]
        rest = f" Too few to say: {', '.join(unclear)}." if unclear else ""
        return "right", f"As it should be on {rows}: {', '.join(one.moved for one in right)}.{rest}{after}"
    why = "every 95 % interval includes no change"
    if all(one.change is None for one in evaluated):
        why = "the evaluations logged no standard errors"
    elif 0 < evaluated[0].prompts < FEWEST_PROMPTS:
        why = f"fewer than {FEWEST_PROMPTS} prompts"
    both = f" {line}" if training else ""
    return ("wrong" if kind == "wrong" else "unclear"), f"Too few to say on {rows}: {why}.{both}{after}"


def judge(values: Sequence[float], should: Literal[-1, 1]) -> tuple[float | None, float | None, Verdict]:
    """Start, end and verdict of a training series that should rise (+1) or fall (−1).

    Start and end are the means of the first and last fifth, three steps at least in each, since a step sees other rows
    each time. A change counts beyond a two-sided t test at 5 % between the two.
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


def _held_out(contents: RunContents, expected: Expectation, rows: Sequence[Row]) -> Direction:
    """The last evaluation beside the start that is known, or beside the first one."""
    metric, last = expected.metric, rows[-1]
    known = _known_start(contents, metric)
    start: Interval | None = known if known is not None else held_out_interval(rows[0], metric)
    first = known.estimate if known is not None else float(rows[0][metric])
    end, count, prompts = held_out_interval(last, metric), _count(last, "rows"), _count(last, "prompts")
    if known is None and len(rows) < 2:
        return Direction(expected, "eval", None, float(last[metric]), "unknown", None, count, prompts)
    if start is None or end is None:
        return Direction(expected, "eval", first, float(last[metric]), "unclear", None, count, prompts)
    low, high = change(start, end)
    said: Verdict = "unclear"
    # Rounding is no change, however narrow the interval.
    if (low > 1e-6 or high < -1e-6) and prompts >= FEWEST_PROMPTS:
        said = "right" if (low > 0) == (expected.should > 0) else "wrong"
    return Direction(expected, "eval", first, end.estimate, said, (low, high), count, prompts)


def _where_it_fell(one: Direction) -> str:
    where = "on held-out prompts" if one.split == "eval" else "in training"
    return f"reward fell {where} from {number(one.start)} to {number(one.end)}"


def _of_training(training: Sequence[Direction]) -> tuple[Verdict, str]:
    if not training:
        return "unknown", "Too few logged steps to say where the curves are going."
    wrong, right = ([one for one in training if one.verdict == kind] for kind in ("wrong", "right"))
    if wrong:
        return "wrong", f"Not as it should be in training: {', '.join(one.moved for one in wrong)}."
    if right:
        return "right", f"As it should be in training: {', '.join(one.moved for one in right)}."
    return "unclear", "No clear change in training: every curve stays within its own noise."


def _known_start(contents: RunContents, metric: str) -> Interval | None:
    """Where the policy starts as its reference, rewards are 0 and rank pairs by chance."""
    if stage_of(contents) in {"rm", "sft", *ONLINE} or not metric.startswith("rewards/"):
        return None
    first = next((value for _, value in values_of(contents.train, "rewards/margins")), None)
    if first is None or abs(first) >= 1e-6:
        return None
    return exactly(0.5 if metric in SHARES else 0.0)


def _count(row: Row, name: str) -> int:
    found = row.get(name)
    return int(found) if isinstance(found, int | float) else 0
