"""The figures of a win rate, from its items."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from palate import stats
from palate.errors import DataError
from palate.evaluation.winrate.items import Group, WinRateItem, by_category, by_length, clusters_of

Band: TypeAlias = Literal["below_50", "50_to_60", "60_to_80", "above_80"]
BANDS: Mapping[Band, tuple[str, str]] = {
    "below_50": ("wrong", "below 50 %: A loses against B"),
    "50_to_60": ("unclear", "50 to 60 %: A is little better than B"),
    "60_to_80": ("right", "60 to 80 %: what a good DPO run reaches"),
    "above_80": ("unclear", "above 80 %: check the judge and look for leaked prompts before you believe it"),
}
"""Per band the class of its colour, and the sentence."""
NO_DIFFERENCE = ("unclear", "no difference is shown: the interval contains 50 %")

EFFECTS = (0.03, 0.05, 0.10)
"""Differences from 50 % for which the number of prompts is given."""
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_STYLES = (
    re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE),
    re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE),
    re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
)
"""Headers, list items and bold text in Markdown, which judges like for their own sake."""


@dataclass(frozen=True, slots=True)
class SlotReport:
    """Which slot wins, over verdict rows; for voters who see an item in one order.

    Attributes:
        first_won, second_won: rows in which the answer shown first or second won.
        first_slot: share of the first slot, ties ½.
        p_value: exact binomial test of the two counts against each other.
    """

    first_won: int
    second_won: int
    first_slot: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Power:
    """What this number of prompts can show.

    Attributes:
        sd: standard deviation of an item's score (with clusters: the standard error times √n).
        smallest: smallest difference from ½ that a one-sided 5 % test finds with probability 80 %.
        needed: difference → number of prompts that it needs.
        for_this: number of prompts for the difference that was found; None if it is 0.
    """

    sd: float
    smallest: float
    needed: Mapping[float, int]
    for_this: int | None


@dataclass(frozen=True, slots=True)
class PeopleCorrection:
    """The judge's win rate corrected with people's votes on `labelled` of its items (PPI++)."""

    labelled: int
    unlabelled: int
    ppi: stats.Corrected
    accuracy: stats.JudgeAccuracy


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures about the items.

    Attributes:
        counts: items by status: judged, same_answer, unparsed, missing.
        win_rate: raw, with wins, ties, inconsistent items and losses.
        bounds: the raw rate if A had lost, and if A had won, every unparsed or missing item.
        length_controlled: at equal length. `length_and_style_controlled`: also at equal style; None unless asked for.
        position: of a judge that saw both orders; `slots` of people, who saw one.
        power: what n could show; None with a single item or cluster, and if all scores are equal.
        by_category, by_length: win rates of parts.
        mean_lengths: mean characters of the answers of A and B.
        people: corrected with votes of people; None without any.
    """

    counts: Mapping[str, int]
    win_rate: stats.WinRate
    bounds: tuple[float, float]
    length_controlled: stats.LengthControl
    length_and_style_controlled: stats.LengthControl | None
    position: stats.PositionReport | None
    slots: SlotReport | None
    power: Power | None
    by_category: Sequence[Group]
    by_length: Sequence[Group]
    mean_lengths: tuple[float, float]
    people: PeopleCorrection | None


def measure(
    items: Sequence[WinRateItem], *, with_style: bool = False, labels: Mapping[str, float] | None = None
) -> Figures:
    """Compute the figures.

    Args:
        items: all prompts, those without a verdict included.
        with_style: also control for headers, lists and bold text.
        labels: item id → A's share by people, to correct a judge's rate with.

    Raises:
        DataError: no item was judged; says why.
    """
    kept = [item for item in items if item.scored]
    if not kept:
        first = next(iter(items), None)
        why = f": {first.id}: {first.reason or first.status}" if first else ""
        raise DataError(f"no item was judged{why}")
    counts = Counter(item.status for item in items)
    scores = np.array([item.score for item in kept], dtype=np.float64)
    groups = clusters_of(kept)
    judged = [item for item in kept if item.status == "judged"]
    in_both = _in_both_orders(judged)
    total, won = len(items), float(scores.sum())
    open_items = total - len(kept)
    return Figures(
        counts={name: counts[name] for name in ("judged", "same_answer", "unparsed", "missing")},
        win_rate=_raw(items),
        bounds=(won / total, (won + open_items) / total),
        length_controlled=_controlled(kept, with_style=False),
        length_and_style_controlled=_controlled(kept, with_style=True) if with_style else None,
        position=_position(judged) if judged and in_both else None,
        slots=_slots(judged) if judged and not in_both else None,
        power=_power(scores, stats.standard_error(scores, groups)) if len(kept) > 1 else None,
        by_category=by_category(items),
        by_length=by_length(items),
        mean_lengths=_mean_lengths(items),
        people=_corrected(kept, labels) if labels is not None else None,
    )


def _in_both_orders(items: Sequence[WinRateItem]) -> bool:
    return all({verdict.order for verdict in item.verdicts} == {1, -1} for item in items if item.status == "judged")


def _raw(items: Sequence[WinRateItem]) -> stats.WinRate:
    """The raw rate; unparsed items are counted, missing ones are no part of it."""
    asked = [item for item in items if item.scored or item.status == "unparsed"]
    groups = clusters_of(asked)
    if _in_both_orders(asked):
        first, second = [item.shown(1) for item in asked], [item.shown(-1) for item in asked]
        return stats.win_rate(first, second, clusters=groups)
    scores = [float("nan") if item.score is None else item.score for item in asked]
    return stats.win_rate(scores, clusters=groups)


def _controlled(kept: Sequence[WinRateItem], *, with_style: bool) -> stats.LengthControl:
    rows = []
    for item in kept:
        a, b = item.lengths
        texts = [answer.text for answer in item.row.completions] if item.row else ["", ""]
        style = style_differences(texts[0], texts[1]) if with_style else ()
        verdicts = [(row.share, row.order) for row in item.verdicts] or [(0.5, 1), (0.5, -1)]  # equal answers: a tie
        rows += [(share, order, a - b, item.group or item.id, style) for share, order in verdicts]
    shares, orders, lengths, clusters, styles = zip(*rows)
    return stats.length_controlled(shares, orders, lengths, clusters, style=list(zip(*styles)))


def _position(judged: Sequence[WinRateItem]) -> stats.PositionReport:
    first, second = [item.shown(1) for item in judged], [item.shown(-1) for item in judged]
    return stats.position_report(first, second, clusters=clusters_of(judged))


def _slots(judged: Sequence[WinRateItem]) -> SlotReport:
    of_first = [row.share if row.order == 1 else 1 - row.share for item in judged for row in item.verdicts]
    first, second = sum(share > 0.5 for share in of_first), sum(share < 0.5 for share in of_first)
    return SlotReport(first, second, sum(of_first) / len(of_first), stats.binomial_exact(first, first + second))


def _power(scores: np.ndarray[tuple[int], np.dtype[np.float64]], error: float) -> Power | None:
    if not np.isfinite(error) or error == 0:  # a single cluster, or equal scores, which do not show how scores vary
        return None
    sd = error * len(scores) ** 0.5
    found = abs(float(scores.mean()) - 0.5)
    return Power(
        sd,
        stats.smallest_effect(error),
        {effect: stats.items_needed(effect, sd) for effect in EFFECTS},
        stats.items_needed(found, sd) if found > 1e-9 else None,
    )


def _mean_lengths(items: Sequence[WinRateItem]) -> tuple[float, float]:
    lengths = [item.lengths for item in items if item.row is not None]
    if not lengths:
        return 0.0, 0.0
    return sum(a for a, _ in lengths) / len(lengths), sum(b for _, b in lengths) / len(lengths)


def _corrected(kept: Sequence[WinRateItem], labels: Mapping[str, float]) -> PeopleCorrection:
    labelled = [item for item in kept if item.id in labels]
    others = [item for item in kept if item.id not in labels]
    y, f, rest = (
        [labels[item.id] for item in labelled],
        [item.score or 0.0 for item in labelled],
        [item.score or 0.0 for item in others],
    )
    of_labelled, of_others = ([item.group or item.id for item in part] for part in (labelled, others))
    clusters = None if clusters_of(kept) is None else (of_labelled, of_others)
    ppi = stats.ppi_mean(y, f, rest, clusters=clusters)
    return PeopleCorrection(len(labelled), len(others), ppi, stats.judge_accuracy(y, f))


def style_counts(text: str) -> tuple[int, int, int]:
    """Number of headers, list items and bold passages, outside of code blocks."""
    prose = _CODE.sub("", text)
    headers, lists, bold = (len(pattern.findall(prose)) for pattern in _STYLES)
    return headers, lists, bold


def style_differences(a: str, b: str) -> tuple[float, float, float]:
    """(a − b) / (a + b) of each count, in [−1, 1]; 0 where neither text has any (as FastChat normalises them)."""
    first, second = style_counts(a), style_counts(b)
    headers, lists, bold = ((x - y) / (x + y) if x + y else 0.0 for x, y in zip(first, second))
    return headers, lists, bold
