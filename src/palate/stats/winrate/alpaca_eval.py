"""The length-controlled win rate as AlpacaEval 2 computes it (Dubois et al. 2024, 2404.04475), for comparison only.

A logistic model without intercept of the judge's preference for the model's output over the baseline's:

    logit p_i = w₁·tanh(d_i / sd(d)) + w₂·difficulty_i + w₃·[row i is the model's]

with d_i = length of the baseline's output − length of the model's, in characters. Its weights minimise
|w|₁ + C·Σ v_i·loss_i, where C is one of ten values and is chosen by the log-loss in 5-fold cross-validation. If rows
of the two gamed baselines (verbose and concise) are given, they are fitted along with v = 0.2 / 2 each. The rate is
the mean of σ(w₂·difficulty_i + w₃), that is at equal length. `palate.stats.length_controlled` is palate's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from palate.stats.intervals import Floats

Array = npt.NDArray[np.float64]

GAMED_WEIGHT = 0.2
"""Weight of the gamed baselines together, relative to the model's rows."""
FOLDS = 5
STRENGTHS = np.logspace(-4, 4, 10)
_STEPS, _CONVERGED = 200, 1e-10


@dataclass(frozen=True, slots=True)
class GamedRows:
    """Rows of the gamed baselines: preference in [0, 1], d / sd(d), and difficulty, [R] each."""

    preferences: Sequence[float]
    lengths: Sequence[float]
    difficulty: Sequence[float]


def alpaca_eval_rate(
    preferences: Floats, lengths: Floats, difficulty: Floats | None = None, gamed: GamedRows | None = None
) -> float:
    """The length-controlled win rate by AlpacaEval's formula.

    Args:
        preferences: [n], of the judge for the model's output, in [0, 1].
        lengths: [n], characters of the baseline's output minus those of the model's.
        difficulty: [n], `instruction_difficulty` of each prompt; without it the formula has no such term.
        gamed: of its `df_gamed.csv`; without it there is no such regularisation.

    Raises:
        ValueError: fewer than FOLDS rows.
    """
    y, d = (np.asarray(values, dtype=np.float64) for values in (preferences, lengths))
    if len(y) < FOLDS:
        raise ValueError(f"the cross-validation needs {FOLDS} rows or more, got {len(y)}")
    spread = float(d.std(ddof=1))
    extra = gamed or GamedRows((), (), ())
    k, n = len(extra.preferences), len(y)
    columns = [
        np.tanh(np.concatenate([extra.lengths, d / spread if spread > 0 else 0 * d])),
        np.repeat([0.0, 1.0], [k, n]),
    ]
    if difficulty is not None:
        columns.insert(1, np.concatenate([extra.difficulty, np.asarray(difficulty, dtype=np.float64)]))
    design = np.column_stack(columns)
    fitted = _fit_by_folds(design, np.concatenate([extra.preferences, y]), np.repeat([GAMED_WEIGHT / 2, 1.0], [k, n]))
    return float(special.expit(design[k:, 1:] @ fitted[1:]).mean())


def _fit_by_folds(x: Array, y: Array, v: Array) -> Array:
    """The weights with the strength C that has the lowest mean loss on the rows left out; the lowest C of equal ones.

    Row i is in fold i mod 5. AlpacaEval's folds depend on an unstable sort, so they are not defined more closely.
    """
    fold = np.arange(len(y)) % FOLDS
    losses = []
    for strength in STRENGTHS:
        held_out = []
        for number in range(FOLDS):
            train, test = fold != number, fold == number
            fitted = _fit(x[train], y[train], v[train], float(strength))
            held_out.append(float((v[test] * _loss(x[test] @ fitted, y[test])).mean()))
        losses.append(sum(held_out) / FOLDS)
    return _fit(x, y, v, float(STRENGTHS[int(np.argmin(losses))]))


def _fit(x: Array, y: Array, v: Array, strength: float) -> Array:
    """argmin |w|₁ + C·Σ v·loss: Newton steps on the loss, each with the penalty by coordinate descent."""

    def cost(w: Array) -> float:
        return float((v * _loss(x @ w, y)).sum() + np.abs(w).sum() / strength)

    w = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = special.expit(x @ w)
        gradient, curvature = x.T @ (v * (p - y)), (x * (v * p * (1 - p))[:, None]).T @ x
        step = _penalised_step(w, gradient, curvature + 1e-12 * np.eye(len(w)), 1 / strength)
        while cost(w + step) > cost(w) and np.abs(step).max() > _CONVERGED:
            step /= 2
        w = w + step
        if np.abs(step).max() <= _CONVERGED:
            break
    return w


def _penalised_step(w: Array, gradient: Array, curvature: Array, penalty: float) -> Array:
    """The step d with the least g'd + ½·d'Hd + penalty·|w + d|₁."""
    step = np.zeros_like(w)
    for _ in range(_STEPS):
        before = step.copy()
        for j, width in enumerate(np.diag(curvature)):
            goal = w[j] + step[j] - (gradient[j] + curvature[j] @ step) / width
            step[j] = np.sign(goal) * max(abs(goal) - penalty / width, 0.0) - w[j]
        if np.abs(step - before).max() < _CONVERGED:
            break
    return step


def _loss(logits: Array, y: Array) -> Array:
    return np.asarray(np.logaddexp(0, logits) - y * logits, dtype=np.float64)
