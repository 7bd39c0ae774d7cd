"""The order in which tasks are given out: weighted sampling without replacement, with known probabilities.

Every task has a weight w. With a uniform u of its own, its priority is −ln(u)/w, and tasks are given out in ascending
priority: this samples without replacement with probabilities in proportion to the weights (Efraimidis and Spirakis
2006, Information Processing Letters 97:181). The first draw takes a task with probability w/Σw, which is stored. The
priorities of tasks do not depend on each other, so tasks that are added later mix in as if they had been there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from palate.data.mix import drawn_key
from palate.errors import DataError

UNKNOWN = 0.5
"""Weight of a task whose margin or disagreement is not known; that of the median margin."""

_LEAST = 0.05
"""Weight of a task on which judges agree fully."""


def margin_weights(margins: Sequence[float | None]) -> list[float]:
    """w = 1 / (1 + |margin| / median of |margin|): 1 at margin 0, ½ at the median, falling towards 0.

    Raises:
        DataError: no margin is known.
    """
    known = [abs(margin) for margin in margins if margin is not None]
    if not known:
        raise DataError("order uncertain: no item has a column margin or policy_margin; add it to the candidates")
    scale = statistics.median(known) or statistics.fmean(known) or 1.0
    return [UNKNOWN if margin is None else 1 / (1 + abs(margin) / scale) for margin in margins]


def disagreement_weights(scores: Sequence[Sequence[float]]) -> list[float]:
    """w = 0.05 + 0.95·d with d = 4·variance of the scores of a task, which is 0 if all agree and 1 if they are split.

    Args:
        scores: for each task the judges' votes, 1 for left, ½ for a tie, 0 for right; with fewer than two the
            disagreement is not known.

    Raises:
        DataError: no task has two judges' votes.
    """
    if all(len(given) < 2 for given in scores):
        raise DataError(
            "order disagreement: no task has two votes of judges (or of one judge in both orders); "
            "import them with `palate label import`"
        )
    return [UNKNOWN if len(given) < 2 else _LEAST + (1 - _LEAST) * 4 * statistics.pvariance(given) for given in scores]


def draw_probabilities(weights: Sequence[float]) -> list[float]:
    """w/Σw: the probability that a task is the first that is drawn; they sum to 1."""
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def uniform(seed: int, text: str) -> float:
    """A pseudo-random number in (0, 1) that depends on the seed and the text only."""
    return (int.from_bytes(drawn_key(seed, text), "big") + 0.5) / 2**64


def priority(seed: int, text: str, weight: float = 1.0) -> float:
    """The exponential key −ln(u)/w of a task, named by `text`."""
    return -math.log(uniform(seed, text)) / weight
