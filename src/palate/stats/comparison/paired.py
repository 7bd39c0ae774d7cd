"""Paired comparison of two measurements of the same items: difference, interval, test, smallest detectable difference.

Follows Miller 2024 (2411.00640): the items' differences d_i are analysed, never the two means as if they were
independent, and items of one cluster are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from palate.stats.bootstrap import bootstrap_interval
from palate.stats.comparison.significance import mcnemar_midp, smallest_effect
from palate.stats.intervals import (
    Floats,
    Interval,
    newcombe_paired,
    numbered,
    standard_error,
    t_interval,
    t_test,
)

PairedTest: TypeAlias = Literal["McNemar mid-p", "paired t", "cluster t"]

EXACT_BELOW = 300
"""Yes/no outcomes of fewer items than this get McNemar's test and Newcombe's interval."""
MOST_RESAMPLED = 10_000
"""With more units than this the bootstrap, which then agrees with Student's t, is left out."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two measurements of the same items, second minus first.

    Attributes:
        n: number of items.
        units: number of independent units: clusters, or items if there are no clusters.
        first, second: the two means.
        difference: second − first with its interval.
        p_value: two-sided, of no difference; not adjusted for other tests.
        test: the test of `p_value`. `McNemar mid-p` comes with Newcombe's interval, the others with Student's t.
        bootstrap: BCa interval over units of 10,000 resamples, for values other than 0 and 1 and at most
            `MOST_RESAMPLED` units; else None.
        higher, lower: items whose second value is higher, and lower.
        detectable: smallest true difference that a study of this size finds with a probability of 80 %; None if the
            spread of the differences is not known (it is 0, or there is one unit), or if it would be above 1 for values
            of 0 and 1.
    """

    n: int
    units: int
    first: float
    second: float
    difference: Interval
    p_value: float
    test: PairedTest
    bootstrap: Interval | None
    higher: int
    lower: int
    detectable: float | None


def paired_difference(
    first: Floats,
    second: Floats,
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    seed: int = 0,
    resample: bool = True,
) -> PairedDifference:
    """Compare two measurements of the same n items.

    - Values 0 and 1 only, n < 300: mid-p McNemar test of the discordant items, Newcombe's interval (method 10).
    - Otherwise: paired t, `mean_interval` of the d_i; values other than 0 and 1 also get a BCa bootstrap interval.
    - Clusters with more than one item: the same with the cluster-robust standard error and t(G−1).

    Args:
        first, second: [n], item by item in the same order; finite.
        clusters: the cluster of each item, if items may depend on each other.
        seed: of the bootstrap. `resample`: whether to make it.

    Raises:
        ValueError: the lengths differ, there is no item, or a value is not finite.
    """
    before, after = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(f"{len(before)} first values but {len(after)} second ones")
    differences = after - before
    groups = list(clusters) if clusters is not None and len(set(clusters)) < len(clusters) else None
    binary = bool(np.isin(np.concatenate([before, after]), (0.0, 1.0)).all())
    mean = t_interval(differences, groups, level)
    error = standard_error(differences, groups)
    higher, lower = int((differences > 0).sum()), int((differences < 0).sum())
    test: PairedTest = "paired t" if groups is None else "cluster t"
    p_value = t_test(differences, groups)
    if binary and groups is None and len(differences) < EXACT_BELOW:
        test, p_value = "McNemar mid-p", mcnemar_midp(higher, lower)
        both = int(((before == 1) & (after == 1)).sum())
        mean = newcombe_paired(both, higher, lower, len(before) - both - higher - lower, level=level)
    known = mean.n > 1 and 0 < error < math.inf
    smallest = smallest_effect(error, alpha=1 - level, units=mean.n, sides=2) if known else None
    return PairedDifference(
        n=len(differences),
        units=mean.n,
        first=float(before.mean()),
        second=float(after.mean()),
        difference=mean,
        p_value=p_value,
        test=test,
        bootstrap=None if binary or not resample else _bootstrap(differences, groups, level, seed),
        higher=higher,
        lower=lower,
        detectable=None if binary and smallest is not None and smallest > 1 else smallest,
    )


def _bootstrap(
    differences: npt.NDArray[np.float64], groups: Sequence[Hashable] | None, level: float, seed: int
) -> Interval | None:
    """BCa interval of the mean over items, or over clusters (sum and count of each)."""
    if groups is None:
        if not 2 <= len(differences) <= MOST_RESAMPLED:
            return None
        return bootstrap_interval(differences, level=level, seed=seed)
    numbers = numbered(groups)
    cells = np.column_stack([np.bincount(numbers, weights=differences), np.bincount(numbers)])
    if not 2 <= len(cells) <= MOST_RESAMPLED:
        return None
    return bootstrap_interval(cells, lambda rows: float(rows[:, 0].sum() / rows[:, 1].sum()), level=level, seed=seed)
