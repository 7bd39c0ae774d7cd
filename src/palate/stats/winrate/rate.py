"""Win rates of a candidate against an incumbent, from verdicts in both orders."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.stats.comparison.significance import binomial_exact, binomial_midp
from palate.stats.intervals import Floats, Interval, numbered, rate_interval

_ROUNDING = 1e-9
"""Tolerance for the rounding error of verdicts that cancel out (0.7 and 0.3)."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """The candidate's win rate and the counts behind it.

    Attributes:
        rate: mean item score, where a tie or a contradiction is ½; None if no item was judged.
        wins: items with a score above ½.
        ties: items that are a tie in every order.
        inconsistent: items whose two orders contradict each other and cancel out.
        losses: items with a score below ½.
        unparsed: items without a readable verdict in both orders; not counted elsewhere.
        decided: share of wins among wins and losses: the rate without ties, to see their influence.
        p_value: mid-p of the sign test of wins against losses; with clusters, of clusters with a mean score above ½
            against clusters with one below.
        both_orders: False if each item was judged in one order only; `rate` then includes the judge's position bias.
    """

    rate: Interval | None
    wins: int
    ties: int
    inconsistent: int
    losses: int
    unparsed: int
    decided: Interval | None
    p_value: float
    both_orders: bool


@dataclass(frozen=True, slots=True)
class PositionReport:
    """How much a judge's verdict depends on the order of the answers.

    Attributes:
        consistency: share of items with the same verdict in both orders.
        first_slot: how often the answer shown first wins, ties ½; ½ is unbiased.
        first_both: items where the first slot won both times.
        second_both: items where the second slot won both times.
        p_value: exact binomial test of the two counts against each other.
    """

    consistency: Interval
    first_slot: float
    first_both: int
    second_both: int
    p_value: float


def win_rate(
    shown_first: Floats,
    shown_second: Floats | None = None,
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> WinRate:
    """The candidate's win rate over n items.

    Args:
        shown_first: verdict on each item with the candidate shown first: 1 win, ½ tie, 0 loss, values in between from
            soft judges, NaN if the verdict could not be read.
        shown_second: the same with the candidate shown second; leave it out only if the judge ignores the order.
        clusters: the group of each item (prompt, topic), if items of a group depend on each other.
        level: two-sided coverage of the intervals.

    An item's score is the mean of its two orders, so inconsistent verdicts count as a tie, and (win, tie) as 0.75.
    """
    first, second, groups = _readable(shown_first, shown_first if shown_second is None else shown_second, clusters)
    scores = (first + second) / 2
    won, even = scores > 0.5, scores == 0.5
    wins, losses = int(won.sum()), int((scores < 0.5).sum())
    ties = int((even & (first == second)).sum())
    above, below = _signs(scores, groups)
    return WinRate(
        rate=rate_interval(scores, clusters=groups, level=level) if len(scores) else None,
        wins=wins,
        ties=ties,
        inconsistent=int(even.sum()) - ties,
        losses=losses,
        unparsed=len(shown_first) - len(scores),
        decided=rate_interval(won[~even], clusters=_kept(groups, ~even), level=level) if wins + losses else None,
        p_value=binomial_midp(above, above + below),
        both_orders=shown_second is not None,
    )


def position_report(
    shown_first: Floats, shown_second: Floats, *, clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> PositionReport:
    """A judge's position bias from verdicts for the candidate in both orders (Shi et al. 2024, 2406.07791).

    Items without a readable verdict in both orders are left out. `clusters` as in `win_rate`.
    """
    first, second, groups = _readable(shown_first, shown_second, clusters)
    if len(first) == 0:
        raise ValueError("no item was judged in both orders")
    first_both, second_both = int(((first > 0.5) & (second < 0.5)).sum()), int(((first < 0.5) & (second > 0.5)).sum())
    return PositionReport(
        consistency=rate_interval(first == second, clusters=groups, level=level),
        first_slot=float(((first + 1 - second) / 2).mean()),
        first_both=first_both,
        second_both=second_both,
        p_value=binomial_exact(first_both, first_both + second_both),
    )


def _readable(
    shown_first: Floats, shown_second: Floats, clusters: Sequence[Hashable] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[Hashable] | None]:
    """The verdicts of the items that have both, and the clusters of these items."""
    first, second = _verdicts(shown_first), _verdicts(shown_second)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} verdicts shown first but {len(second)} shown second")
    read = np.isfinite(first) & np.isfinite(second)
    return first[read], second[read], _kept(clusters, read)


def _kept(clusters: Sequence[Hashable] | None, kept: npt.NDArray[np.bool_]) -> list[Hashable] | None:
    """The cluster names of the items where `kept` is true."""
    return None if clusters is None else [name for name, keep in zip(clusters, kept, strict=True) if keep]


def _signs(scores: npt.NDArray[np.float64], groups: Sequence[Hashable] | None) -> tuple[int, int]:
    """The number of items, or of clusters by mean score, above ½ and below ½."""
    above_half = scores - 0.5
    if groups is not None:
        above_half = np.bincount(numbered(groups), weights=above_half).astype(np.float64)
    return int((above_half > _ROUNDING).sum()), int((above_half < -_ROUNDING).sum())


def _verdicts(values: Floats) -> npt.NDArray[np.float64]:
    """The verdicts as an array, NaN for None; checks that they are in [0, 1]."""
    array = np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)
    if ((array < 0) | (array > 1)).any():
        raise ValueError("verdicts must be in [0, 1]: 1 win, 0.5 tie, 0 loss")
    return array
