"""Rates with intervals, and paired comparisons of two models on the same items.

| item scores       | interval of the difference      | p                                         |
|-------------------|---------------------------------|-------------------------------------------|
| all 0 or 1        | Newcombe's method 10            | mid-p McNemar test on the discordant pairs |
| shares of 1       | Student t of the differences    | paired t test                             |
| grades, 1 to 10   | BCa bootstrap of 10,000         | paired t test                             |

The p-values of the categories of one metric in one comparison are a family and are adjusted by Holm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from palate import stats

Scores = Mapping[str, Mapping[str, float]]
"""Item id → metric → score: a share of 1, or a grade."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The mean of a metric over the items of a model, with its 95 % interval (of grades `mean_interval`).

    Attributes:
        metric: its name.
        category: of the items; None for all.
        mean: with interval and number of items.
    """

    metric: str
    category: str | None
    mean: stats.Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of two models on the items that both have.

    Attributes:
        metric: its name.
        category: of the items; None for all.
        before, after: the means of both on these items.
        difference: after − before, with its 95 % interval.
        p: two-sided.
        p_holm: adjusted over the categories; None for all items.
        test: `mcnemar_midp`, `paired_t`, or `paired_t_bca` if the interval is by bootstrap.
        only_before, only_after: items with 1 for one model and 0 for the other (`mcnemar_midp` only).
    """

    metric: str
    category: str | None
    before: stats.Interval
    after: stats.Interval
    difference: stats.Interval
    p: float
    p_holm: float | None
    test: str
    only_before: int | None = None
    only_after: int | None = None


def rates(
    scores: Scores, categories: Mapping[str, str], metrics: Sequence[str], *, grades: Collection[str] = ()
) -> list[Rate]:
    """The rates of one model: each metric over all items, then by category in the order of the items.

    Args:
        grades: the metrics that are no shares of 1.
    """
    found = []
    for metric in metrics:
        values = {item: each[metric] for item, each in scores.items() if metric in each}
        mean = stats.mean_interval if metric in grades else stats.rate_interval
        found += [
            Rate(metric, category, mean([values[item] for item in items]))
            for category, items in _parts(values, categories)
        ]
    return found


def differences(
    before: Scores,
    after: Scores,
    categories: Mapping[str, str],
    metrics: Sequence[str],
    *,
    grades: Collection[str] = (),
) -> list[Difference]:
    """The paired comparison of two models: each metric over all shared items, then by category."""
    found = []
    for metric in metrics:
        shared = [item for item, each in before.items() if metric in each and item in after and metric in after[item]]
        pairs = {item: (before[item][metric], after[item][metric]) for item in shared}
        binary = all(score in (0.0, 1.0) for pair in pairs.values() for score in pair)
        test = "paired_t_bca" if metric in grades else "mcnemar_midp" if binary else "paired_t"
        made = [
            _difference(metric, category, [pairs[item] for item in items], test)
            for category, items in _parts(pairs, categories)
        ]
        adjusted = iter(stats.holm([one.p for one in made if one.category is not None]))
        found += [one if one.category is None else replace(one, p_holm=next(adjusted)) for one in made]
    return found


def _parts(values: Mapping[str, object], categories: Mapping[str, str]) -> list[tuple[str | None, list[str]]]:
    """(None, all items), then each category with its items, if there are two categories or more."""
    items = list(values)
    if not items:
        return []
    by_category: dict[str, list[str]] = {}
    for item in items:
        if categories.get(item):
            by_category.setdefault(categories[item], []).append(item)
    parts: list[tuple[str | None, list[str]]] = [(None, items)]
    return [*parts, *by_category.items()] if len(by_category) > 1 else parts


def _difference(metric: str, category: str | None, pairs: Sequence[tuple[float, float]], test: str) -> Difference:
    mean = stats.mean_interval if test == "paired_t_bca" else stats.rate_interval
    before, after = (mean([pair[side] for pair in pairs]) for side in (0, 1))
    changes = [y - x for x, y in pairs]
    if test != "mcnemar_midp":
        by_bootstrap = test == "paired_t_bca" and len(pairs) > 1
        interval = stats.bootstrap_interval(changes) if by_bootstrap else stats.mean_interval(changes)
        return Difference(metric, category, before, after, interval, stats.t_test(changes), None, test)
    both = sum(pair == (1, 1) for pair in pairs)
    only_before, only_after = sum(pair == (1, 0) for pair in pairs), sum(pair == (0, 1) for pair in pairs)
    interval = stats.newcombe_paired(both, only_after, only_before, len(pairs) - both - only_before - only_after)
    p = stats.mcnemar_midp(only_before, only_after)
    return Difference(metric, category, before, after, interval, p, None, test, only_before, only_after)
