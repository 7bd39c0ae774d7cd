"""Win rates of a judge corrected with human labels: PPI++, and Rogan–Gladen by sensitivity and specificity.

Labels `y` and verdicts `f` are item scores in [0, 1]: 1 win, ½ tie, 0 loss. Both corrections estimate the mean label
E[y], the win rate with ties as ½.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from palate.stats.intervals import (
    Floats,
    Interval,
    effective_size,
    independent_difference,
    normal_quantile,
    rate_interval,
    size_of_rate,
    standard_error,
    t_quantile,
    wilson,
)

LEAST_J = 0.3
"""Below this J of a judge, a correction by sensitivity and specificity is refused."""
MOST_DELTA_J = 0.2
"""Above this difference of J between two models, their corrected difference is refused."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A corrected estimate beside the raw one.

    Attributes:
        raw: the mean verdict on all items, without a correction.
        interval: the corrected estimate; None if it is refused or cannot be computed.
        reason: why `interval` is None; empty otherwise.
        weight: λ of PPI++, the weight of the verdicts; None for other corrections.
    """

    raw: Interval
    interval: Interval | None
    reason: str = ""
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class JudgeAccuracy:
    """How well a judge recognises wins and losses, on items with a human label.

    Attributes:
        sensitivity: mean verdict where the label is a win; None without one.
        specificity: one minus the mean verdict where the label is a loss; None without one.
        wins, losses: number of labels behind them; a tie counts as half of each.
        j: Youden's J = sensitivity + specificity − 1: 0 for a judge that guesses, 1 for one without error; None if one
            of the two is.
        reason: why one of them is None; empty otherwise.
    """

    sensitivity: Interval | None
    specificity: Interval | None
    wins: float
    losses: float
    j: float | None
    reason: str = ""


def ppi_mean(
    labels: Floats,
    verdicts: Floats,
    unlabelled: Floats,
    *,
    clusters: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    level: float = 0.95,
) -> Corrected:
    """Mean label from n labelled and N unlabelled items (PPI++, Angelopoulos et al. 2023, 2311.01453).

    λ = clip(cov(y, f) / ((1 + n/N)·var f), 0, 1), with var f over all n + N verdicts;
    W = λ·mean_N(f) + mean_n(y − λ·f), Var = var(y − λ·f)/n + λ²·var(f)/N. The interval is Wilson's with the effective
    size W(1−W)/Var, as of every rate here; W ± z·√Var covers too seldom near 0 and 1, where few labels are losses or
    wins. The size is at least that of the labels alone, which bounds it where W is near or beyond 0 or 1.

    Args:
        labels: y of the labelled items.
        verdicts: f of the same items.
        unlabelled: f of the N other items.
        clusters: the groups (prompts) of the labelled and of the unlabelled items; then both variances come from
            cluster sums, and t with G−1 degrees of freedom of the labelled clusters replaces z.

    Without unlabelled items the estimate is the mean label. If neither labels nor verdicts leave a variance (all items
    are wins), the interval is Wilson's of the labels.
    """
    y, f, others = _scores(labels), _scores(verdicts), _scores(unlabelled)
    if len(y) != len(f):
        raise ValueError(f"{len(y)} labels but {len(f)} verdicts")
    of_labelled, of_others = clusters if clusters is not None else (None, None)
    together = None if clusters is None else [*clusters[0], *clusters[1]]
    if len(f) + len(others) == 0:
        raise ValueError("no item has a verdict")
    raw = rate_interval(np.concatenate([f, others]), clusters=together, level=level)
    units = _unit_count(y, of_labelled)
    if units < 2:
        return Corrected(raw, None, f"a correction needs two labelled items or more, here {units}")
    weight = _weight(y, f, others) if _unit_count(others, of_others) > 1 else 0.0
    if weight == 0:
        return Corrected(raw, rate_interval(y, clusters=of_labelled, level=level), weight=0.0)
    rectified = y - weight * f
    estimate = weight * float(others.mean()) + float(rectified.mean())
    variance = standard_error(rectified, of_labelled) ** 2 + (weight * standard_error(others, of_others)) ** 2
    quantile = normal_quantile(level) if clusters is None else t_quantile(level, units - 1)
    estimate = min(1.0, max(0.0, estimate))
    size = max(size_of_rate(estimate, variance, units), effective_size(y, of_labelled))
    found = wilson(estimate * size, size, level=level, quantile=quantile)
    return Corrected(raw, replace(found, n=units), weight=weight)


def judge_accuracy(labels: Floats, verdicts: Floats, *, level: float = 0.95) -> JudgeAccuracy:
    """Sensitivity and specificity of verdicts f against labels y, Σ y·f / Σ y and Σ (1−y)·(1−f) / Σ (1−y).

    With ties as halves, E[f] = E[y]·sensitivity + (1 − E[y])·(1 − specificity) holds exactly. Intervals are Wilson's.
    """
    y, f = _scores(labels), _scores(verdicts)
    if len(y) != len(f):
        raise ValueError(f"{len(y)} labels but {len(f)} verdicts")
    wins, losses = float(y.sum()), float((1 - y).sum())
    sensitivity = wilson(min(wins, float(y @ f)), wins, level=level) if wins > 0 else None
    specificity = wilson(min(losses, float((1 - y) @ (1 - f))), losses, level=level) if losses > 0 else None
    missing = [name for name, found in (("win", sensitivity), ("loss", specificity)) if found is None]
    reason = f"no label is a {' or a '.join(missing)}" if missing else ""
    j = None if sensitivity is None or specificity is None else sensitivity.estimate + specificity.estimate - 1
    return JudgeAccuracy(sensitivity, specificity, wins, losses, j, reason)


def rogan_gladen(
    verdicts: Floats,
    accuracy: JudgeAccuracy,
    *,
    clusters: Sequence[Hashable] | None = None,
    least_j: float = LEAST_J,
) -> Corrected:
    """Win rate θ = (p + q0 − 1) / (q0 + q1 − 1), q1 the judge's sensitivity and q0 its specificity (2511.21140).

    p is the mean of `verdicts` on other items than those of `accuracy`; with `clusters` of the verdicts (their
    prompts) its interval is that of clusters. The interval has the θ for which L(θ) = p − (1−θ)·(1−q0) − θ·q1 is not
    different from 0, with the interval of L put together from Wilson's of p, q0 and q1 (MOVER, Zou and Donner 2008):
    its lower end is where L² = (p − p_low)² + (1−θ)²·(q0 − q0_low)² + θ²·(q1_high − q1)² and L > 0, the upper one
    where L² has the other three distances and L < 0. It keeps a width where p is 0 or 1, and covers more evenly than
    the pseudo-counts of Lang and Reiczigel 2014, which 2511.21140 uses (docs/statistics.md).

    Refused, with the reason, where sensitivity or specificity is unknown, J is below `least_j`, or no θ in [0, 1] is
    left: the judge's rate of wins cannot come from items like the labelled ones.
    """
    f, sensitivity, specificity, j = _scores(verdicts), accuracy.sensitivity, accuracy.specificity, accuracy.j
    if len(f) == 0:
        raise ValueError("no item has a verdict")
    raw = rate_interval(f, clusters=clusters, level=0.95 if sensitivity is None else sensitivity.level)
    if sensitivity is None or specificity is None or j is None:
        return Corrected(raw, None, accuracy.reason)
    if j < least_j:
        return Corrected(raw, None, f"J is {j:.2f}, below {least_j:g}: the verdicts say too little about the labels")
    p, q1, q0 = raw.estimate, sensitivity.estimate, specificity.estimate
    theta = (p + q0 - 1) / j
    low = _end(theta, j, (p - raw.low, q0 - specificity.low, sensitivity.high - q1), -1)
    high = _end(theta, j, (raw.high - p, specificity.high - q0, q1 - sensitivity.low), 1)
    if high < 0 or low > 1:
        reason = f"{p:.1%} wins are no rate between those of all losses and of all wins, {1 - q0:.1%} and {q1:.1%}"
        return Corrected(raw, None, f"{reason}: the labelled items are not like the others")
    theta, low, high = (min(1.0, max(0.0, value)) for value in (theta, low, high))
    return Corrected(raw, Interval(theta, low, high, raw.level, raw.n))


def _end(theta: float, j: float, distances: tuple[float, float, float], side: int) -> float:
    """Where J²(t − θ)² = d_p² + (1−t)²·d_0² + t²·d_1², below θ or above it; −1 or 2 where it is nowhere."""
    of_rate, of_losses, of_wins = (distance**2 for distance in distances)
    square = j * j - of_losses - of_wins
    half = j * j * theta - of_losses
    rest = j * j * theta * theta - of_rate - of_losses
    if square <= 0:  # J is not different from 0 at this level
        return 0.5 + 1.5 * side
    return (half + side * math.sqrt(max(0.0, half * half - square * rest))) / square


def corrected_difference(
    first: Corrected,
    second: Corrected,
    accuracies: tuple[JudgeAccuracy, JudgeAccuracy],
    *,
    least_j: float = LEAST_J,
    most_delta_j: float = MOST_DELTA_J,
) -> Corrected:
    """Difference of two models' corrected win rates, each calibrated on the model's own labelled items.

    One calibration set for two models can turn the winner round where the judge treats them differently (2605.06939).
    Refused, with the reason, where a J is unknown or below `least_j`, or where the two differ by more than
    `most_delta_j`; `raw` is given in any case. Intervals are `independent_difference`.
    """
    raw = independent_difference(first.raw, second.raw)
    js = [accuracy.j for accuracy in accuracies]
    if first.interval is None or second.interval is None:
        return Corrected(raw, None, first.reason or second.reason)
    if js[0] is None or js[1] is None:
        return Corrected(raw, None, next(accuracy.reason for accuracy in accuracies if accuracy.j is None))
    if min(js[0], js[1]) < least_j:
        return Corrected(raw, None, f"J is {js[0]:.2f} and {js[1]:.2f}; a difference needs {least_j:g} for both")
    if abs(js[0] - js[1]) > most_delta_j:
        reason = (
            f"J differs by {abs(js[0] - js[1]):.2f}, more than {most_delta_j:g}: the judge treats the two differently"
        )
        return Corrected(raw, None, reason)
    return Corrected(raw, independent_difference(first.interval, second.interval))


def _weight(y: npt.NDArray[np.float64], f: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float:
    """λ of PPI++ in [0, 1]."""
    spread = float(np.concatenate([f, others]).var(ddof=1))
    if spread == 0:
        return 0.0
    return min(1.0, max(0.0, float(np.cov(y, f)[0, 1]) / ((1 + len(y) / len(others)) * spread)))


def _unit_count(values: npt.NDArray[np.float64], clusters: Sequence[Hashable] | None) -> int:
    return len(values) if clusters is None else len(set(clusters))


def _scores(values: Floats) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(
            "scores must be in [0, 1]: 1 win, 0.5 tie, 0 loss; leave out what was not judged, and count it"
        )
    return array
