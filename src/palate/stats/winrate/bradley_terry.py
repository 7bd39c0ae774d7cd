"""Ratings of many models from comparisons of two: the model of Bradley and Terry, with order effect and covariates.

    logit P(first wins) = r_first − r_second + β + γ'z

over verdict rows; `first` is the model whose answer was shown first, so β is what the first slot gains. A tie is half a
win. A small ridge makes the level of r unique; only differences count. Ratings are 1000 + (400 / ln 10)·(r − r_anchor)
as in Elo's scale: 400 points are odds of 10 (Chiang et al. 2024, 2403.04132). The covariance is the sandwich clustered
by prompt, because verdicts on answers to one prompt depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from palate.stats.intervals import Floats, Interval, numbered, t_quantile
from palate.stats.winrate.logistic import SEPARATED, Array, fit, sandwich

RIDGE = 1e-5
ANCHOR_RATING = 1000.0
SCALE = 400 / math.log(10)
"""Rating points of one unit of log-odds."""


@dataclass(frozen=True, slots=True)
class Rating:
    """One model.

    Attributes:
        model: its name.
        rating: in points; the interval is that of the distance to the anchor, whose own has no width.
        rank: 1 + number of models whose interval is wholly above this one's; of intervals of the distance to the mean
            of all models, so that it does not depend on which model is the anchor.
        comparisons: number of verdict rows.
    """

    model: str
    rating: Interval
    rank: int
    comparisons: int


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """Ratings of models that were compared with each other.

    Attributes:
        ratings: best first; empty if there is no finite estimate.
        anchor: the model whose rating is 1000.
        order: β in log-odds; None if no pair was shown in both orders in any chain, so that β cannot be told apart.
        covariates: γ in log-odds.
        reason: why there are no ratings; empty otherwise.
    """

    ratings: tuple[Rating, ...]
    anchor: str
    order: Interval | None = None
    covariates: tuple[Interval, ...] = ()
    reason: str = ""


def ratable_groups(first: Sequence[str], second: Sequence[str], scores: Floats) -> list[list[str]]:
    """The models in groups that can be rated together, the largest first; names in each in order of appearance.

    Two models are in one group if each has won or tied against the other, directly or through others (Ford 1957).
    Otherwise, one has won every comparison or there is none, and the distance between them has no finite estimate.
    """
    names = list(dict.fromkeys(name for pair in zip(first, second, strict=True) for name in pair))
    index = {name: number for number, name in enumerate(names)}
    edges = [
        (index[winner], index[loser])
        for a, b, score in zip(first, second, scores, strict=True)
        for winner, loser, share in ((a, b, score), (b, a, 1 - score))
        if share > 0
    ]
    rows, columns = zip(*edges) if edges else ((), ())
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(graph, directed=True, connection="strong")
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels, strict=True):
        groups.setdefault(int(label), []).append(name)
    return sorted(groups.values(), key=lambda group: (-len(group), index[group[0]]))


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    scores: Floats,
    clusters: Sequence[Hashable],
    *,
    covariates: Sequence[Floats] = (),
    anchor: str | None = None,
    order: bool = True,
    level: float = 0.95,
) -> BradleyTerry:
    """Ratings of one group of `ratable_groups` from R verdict rows.

    Args:
        first, second: [R], models whose answers were shown first and second; never the same in a row.
        scores: [R], 1 if the first won, ½ for a tie, 0 if the second did.
        clusters: [R], the prompt of each row.
        covariates: differences of the first and the second answer, [R] each.
        anchor: the model that has 1000 points; by default the one that appears first.
        order: whether to estimate β. Without it, it is 0.
        level: two-sided coverage, with t(G−1) for G prompts.

    Raises:
        ValueError: the lengths differ, a score is not in [0, 1], a model is compared with itself, or the anchor is not
            among the models.
    """
    s = np.asarray(scores, dtype=np.float64).reshape(-1)
    zs = [np.asarray(values, dtype=np.float64).reshape(-1) for values in covariates]
    if {len(first), len(second), len(clusters), *map(len, zs)} != {len(s)}:
        raise ValueError("models, scores, clusters and covariates must have one value a row")
    if not ((s >= 0) & (s <= 1)).all():
        raise ValueError("scores must be in [0, 1]: 1 win of the first, 0.5 tie, 0 loss")
    if any(a == b for a, b in zip(first, second)):
        raise ValueError("a comparison of a model with itself says nothing about it")
    names = list(dict.fromkeys(name for pair in zip(first, second) for name in pair))
    anchor = names[0] if anchor is None and names else anchor
    if anchor not in names:
        raise ValueError(f"the anchor {anchor} is none of the models: {', '.join(names)}")
    groups = numbered(clusters)
    if groups.max() == 0:
        return BradleyTerry((), anchor, reason="ratings need two prompts or more")
    models = _differences(names, first, second)
    ones = [np.ones_like(s)] if order and _told_apart(names, first, second) else []
    design = np.column_stack([models, *ones, *zs])
    penalty = np.where(np.arange(design.shape[1]) < len(names), RIDGE, 0.0)
    found = fit(design, s, penalty)
    if found is None or np.abs(found).max() > SEPARATED:
        return BradleyTerry((), anchor, reason="the verdicts of an order or a model are all equal: no finite estimate")
    covariance = sandwich(design, s, found, penalty, groups)
    quantile = t_quantile(level, int(groups.max()))

    def interval(weights: Array, middle: float = 0.0, scale: float = 1.0) -> Interval:
        half = scale * quantile * math.sqrt(max(0.0, float(weights @ covariance @ weights)))
        middle += scale * float(weights @ found)
        return Interval(middle, middle - half, middle + half, level, int(groups.max()) + 1)

    unit = np.eye(design.shape[1])
    at_anchor, mean = unit[names.index(anchor)], unit[: len(names)].mean(axis=0)
    rated = [interval(unit[at] - at_anchor, ANCHOR_RATING, SCALE) for at in range(len(names))]
    around_mean = [interval(unit[at] - mean) for at in range(len(names))]
    ranks = [1 + sum(other.low > own.high for other in around_mean) for own in around_mean]
    free = len(names) + len(ones)
    ratings = map(Rating, names, rated, ranks, np.abs(models).sum(axis=0).astype(int).tolist())
    return BradleyTerry(
        tuple(sorted(ratings, key=lambda one: -one.rating.estimate)),
        anchor,
        order=interval(unit[len(names)]) if ones else None,
        covariates=tuple(interval(unit[at]) for at in range(free, design.shape[1])),
    )


def _differences(names: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Array:
    """[R, models] +1 for the first model of a row, −1 for the second."""
    index = {name: number for number, name in enumerate(names)}
    models = np.zeros((len(first), len(names)))
    rows = np.arange(len(first))
    models[rows, [index[name] for name in first]] = 1
    models[rows, [index[name] for name in second]] = -1
    return models


def _told_apart(names: Sequence[str], first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether a constant is no combination of the models' columns, so that the order has an estimate of its own."""
    pairs = _differences(names, *zip(*set(zip(first, second, strict=True))))
    with_constant = np.column_stack([pairs, np.ones(len(pairs))])
    return bool(np.linalg.matrix_rank(with_constant) > np.linalg.matrix_rank(pairs))
