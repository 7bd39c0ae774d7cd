"""Which of several compromises nobody would refuse for another: the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence


def on_front(points: Sequence[Sequence[float]], higher: Sequence[bool]) -> list[bool]:
    """For each point whether no other is at least as good in every figure and better in one; O(n²).

    Args:
        points: n points of k figures each.
        higher: for each figure whether more is better.
    """
    signed = [tuple(value if up else -value for value, up in zip(point, higher, strict=True)) for point in points]
    return [not any(_beats(other, one) for other in signed) for one in signed]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))
