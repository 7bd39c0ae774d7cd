"""Win rates of parts of the items: by category, and by the lengths of the two answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.evaluation.winrate.items import Item, clusters_of
from palate.stats import Interval, rate_interval

_RATIOS = (
    (0.5, "A less than half as long"),
    (0.8, "A shorter (0.5 to 0.8)"),
    (1.25, "similar (0.8 to 1.25)"),
    (2.0, "A longer (1.25 to 2)"),
    (float("inf"), "A more than twice as long"),
)
"""Upper end of the ratio of characters A / B, and the name of the group."""


@dataclass(frozen=True, slots=True)
class Group:
    """A part of the items.

    Attributes:
        name: of the category or the range of lengths.
        items: number of items; `judged` of them count.
        wins, losses: items with a score above and below ½.
        rate: win rate of A; None if no item was judged.
    """

    name: str
    items: int
    judged: int
    wins: int
    losses: int
    rate: Interval | None


def by_category(items: Sequence[Item]) -> list[Group]:
    """A group for each category, in the order of first appearance; none if no item has one."""
    names = list(dict.fromkeys(item.category for item in items))
    if names in ([], [""]):
        return []
    return [_group(name or "(none)", [item for item in items if item.category == name]) for name in names]


def by_length(items: Sequence[Item]) -> list[Group]:
    """A group for each range of the ratio of lengths that has an item; items without answers are in none."""
    named: dict[str, list[Item]] = {name: [] for _, name in _RATIOS}
    for item in items:
        if item.row is not None:
            a, b = item.lengths
            ratio = a / b if b else (1.0 if a == 0 else float("inf"))
            named[next(name for most, name in _RATIOS if ratio <= most)].append(item)
    return [_group(name, found) for name, found in named.items() if found]


def _group(name: str, items: Sequence[Item]) -> Group:
    kept = [item for item in items if item.scored]
    scores = [score for item in kept if (score := item.score) is not None]
    rate = rate_interval(scores, clusters=clusters_of(kept)) if scores else None
    return Group(
        name, len(items), len(scores), sum(score > 0.5 for score in scores), sum(score < 0.5 for score in scores), rate
    )
