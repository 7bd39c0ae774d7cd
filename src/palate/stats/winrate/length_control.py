"""Win rates controlled for length and style: a logistic model of the verdicts, at equal length and style.

    logit P(s_io = 1) = θ + β·o + φ·tanh(d_i / sd(d)) + γ'z_i

over verdict rows: s_io is the candidate's verdict on item i in order o (+1 candidate first, −1 second), d_i the length
difference, z_i differences of style. The length-controlled win rate is the fitted rate at d = 0 and z = 0 over both
orders, ½·[σ(θ+β) + σ(θ−β)] (the idea of Dubois et al. 2024, 2404.04475, without the difficulty of its 805 prompts). Its
variance comes from the cluster-robust sandwich, which contains the error of θ, as AlpacaEval's own does not. If
the verdicts of an order are all equal (a total win), θ or β has no finite maximum likelihood and the sandwich vanishes:
then the estimate is Firth's, and its variance the inverse Hessian with all rows of an item counted as one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.stats.intervals import Floats, Interval, numbered, t_quantile
from palate.stats.winrate.logistic import SEPARATED, Array, fit, fit_separated, hessian, sandwich, sigmoid

RIDGE = 1e-2
"""Penalty ½·RIDGE·(φ² + γ'γ) on the log-likelihood; θ and β have none."""
LARGE_SHIFT = 0.10
"""From this difference of the controlled and the raw rate on, the two need a look (AlpacaEval's own rule)."""


@dataclass(frozen=True, slots=True)
class LengthControl:
    """A win rate at equal length (and style).

    Attributes:
        rate: the controlled rate; None if the model has no finite estimate.
        standard_error: of the rate, from the sandwich; None with `rate`.
        order: β, the log-odds that the first slot gains; above 0 the judge prefers the answer shown first.
        length: φ, the log-odds of a candidate that is much longer; above 0 the judge prefers longer answers.
        style: γ, of each style difference.
        reason: why `rate` is None; empty otherwise.
    """

    rate: Interval | None
    standard_error: float | None
    order: Interval | None
    length: Interval | None
    style: tuple[Interval, ...]
    reason: str = ""


def length_controlled(
    verdicts: Floats,
    orders: Floats,
    lengths: Floats,
    clusters: Sequence[Hashable],
    *,
    style: Sequence[Floats] = (),
    ridge: float = RIDGE,
    level: float = 0.95,
) -> LengthControl:
    """Fit the model to R verdict rows.

    Args:
        verdicts: [R], in [0, 1]: 1 win of the candidate, ½ tie, 0 loss.
        orders: [R], +1 if the candidate is shown first, −1 if second.
        lengths: [R], length of the candidate's answer minus that of the incumbent's, in any unit.
        clusters: [R], the item (or its group) of each row; rows of one item depend on each other.
        style: further differences, [R] each, in [−1, 1].
        ridge: penalty of φ and γ.
        level: two-sided coverage. Ends are logit(rate) ± t(G−1)·SE, so they lie in [0, 1] and mirror if A and B swap.

    Without both orders the order has no column, and the rate is σ(θ).
    """
    s, o, d = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (verdicts, orders, lengths))
    styles = [np.asarray(values, dtype=np.float64).reshape(-1) for values in style]
    if any(len(values) != len(s) for values in (o, d, clusters, *styles)):
        raise ValueError("verdicts, orders, lengths, clusters and style must have one value a row")
    if not ((s >= 0) & (s <= 1)).all():
        raise ValueError("verdicts must be in [0, 1]: 1 win, 0.5 tie, 0 loss")
    groups = numbered(clusters)
    if len(s) == 0 or groups.max() == 0:
        return _unknown("a controlled rate needs two items or more")
    spread = _item_spread(d, groups)
    ordered = [o] if len(set(o.tolist())) > 1 else []
    design = np.column_stack([np.ones_like(s), *ordered, np.tanh(d / spread) if spread > 0 else 0 * d, *styles])
    free = 1 + len(ordered)
    penalty = np.concatenate([np.zeros(free), np.full(design.shape[1] - free, ridge)])
    # A column that is zero everywhere has no information; without a ridge it would make the Hessian singular.
    penalty[(design == 0).all(axis=0)] = max(ridge, RIDGE)
    coefficients = fit(design, s, penalty)
    if coefficients is None or np.abs(coefficients[:free]).max() > SEPARATED:
        separated = fit_separated(design, s, penalty)
        if separated is None:
            return _unknown("the verdicts of an order are all equal, and the model has no finite estimate")
        coefficients, inverse = separated
        covariance = inverse * (len(s) / (groups.max() + 1))  # as if all rows of an item were one
    else:
        covariance = sandwich(design, s, coefficients, penalty, groups)
    if np.abs(coefficients[free:]).max() > SEPARATED:
        # Length or style alone decides every verdict: residuals vanish and with them the sandwich, so the inverse
        # Hessian of the penalised model, which grows there, gives the variance.
        covariance = np.asarray(np.linalg.inv(hessian(design, sigmoid(design @ coefficients), penalty)), np.float64)
    return _controlled(coefficients, covariance, bool(ordered), t_quantile(level, int(groups.max())), groups, level)


def _controlled(
    coefficients: Array,
    covariance: Array,
    both_orders: bool,
    quantile: float,
    groups: npt.NDArray[np.int64],
    level: float,
) -> LengthControl:
    """The rate with its interval by the delta method, and the coefficients with theirs."""
    count, free = int(groups.max()) + 1, 2 if both_orders else 1
    gradient = np.zeros_like(coefficients)
    sides = [coefficients[0] + coefficients[1], coefficients[0] - coefficients[1]] if both_orders else [coefficients[0]]
    rates = sigmoid(np.array(sides))
    slopes = rates * (1 - rates)
    gradient[0] = slopes.mean()
    if both_orders:
        gradient[1] = (slopes[0] - slopes[1]) / 2
    rate = float(rates.mean())
    error = math.sqrt(max(0.0, float(gradient @ covariance @ gradient)))
    half = quantile * error / (rate * (1 - rate))
    logit = math.log(rate / (1 - rate))
    low, high = sigmoid(np.array([logit - half, logit + half])).tolist()

    def interval(index: int) -> Interval:
        estimate, width = float(coefficients[index]), quantile * math.sqrt(max(0.0, float(covariance[index, index])))
        return Interval(estimate, estimate - width, estimate + width, level, count)

    return LengthControl(
        rate=Interval(rate, low, high, level, count),
        standard_error=error,
        order=interval(1) if both_orders else None,
        length=interval(free),
        style=tuple(interval(index) for index in range(free + 1, len(coefficients))),
    )


def _item_spread(d: Array, groups: npt.NDArray[np.int64]) -> float:
    """Standard deviation of the differences, each cluster with equal weight however many rows it has."""
    counts = np.bincount(groups)
    weights = 1.0 / counts[groups]
    mean = float((weights * d).sum() / weights.sum())
    return math.sqrt(float((weights * (d - mean) ** 2).sum() / weights.sum()))


def _unknown(reason: str) -> LengthControl:
    return LengthControl(None, None, None, None, (), reason)
