"""AlpacaEval's length-controlled win rate against scikit-learn's solver, and what its terms do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from palate.stats import GamedRows, alpaca_eval_rate
from palate.stats.winrate.alpaca_eval import FOLDS, STRENGTHS


def rows(n: int, *, gain: float, length: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Preferences, lengths (baseline minus model) and difficulties of a model that wins by `gain` at equal length."""
    rng = np.random.default_rng(seed)
    d, hard = rng.normal(-200, 400, n), rng.normal(0, 1, n)
    p = special.expit(gain + 0.5 * hard + length * np.tanh(d / d.std(ddof=1)))
    return (rng.random(n) < p).astype(float), d, hard


def by_sklearn(x: np.ndarray, y: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The weights by liblinear, with fractional outcomes as two weighted rows, and 5 folds as palate has them."""

    def fit(keep: np.ndarray, strength: float) -> np.ndarray:
        model = LogisticRegression(l1_ratio=1.0, solver="liblinear", C=strength, fit_intercept=False, tol=1e-9,
                                   max_iter=5000, random_state=0)  # fmt: skip
        twice = np.vstack([x[keep], x[keep]])
        outcome = np.repeat([1, 0], keep.sum())
        model.fit(twice, outcome, sample_weight=np.concatenate([y[keep] * v[keep], (1 - y[keep]) * v[keep]]))
        return model.coef_[0]

    fold, losses = np.arange(len(y)) % FOLDS, []
    for strength in STRENGTHS:
        held = []
        for number in range(FOLDS):
            p = special.expit(x[fold == number] @ fit(fold != number, strength))
            t, w = y[fold == number], v[fold == number]
            held.append((-w * (t * np.log(p) + (1 - t) * np.log(1 - p))).mean())
        losses.append(np.mean(held))
    return fit(np.ones(len(y), bool), STRENGTHS[int(np.argmin(losses))])


def test_the_whole_formula_is_that_of_scikit_learn() -> None:
    y, d, hard = rows(200, gain=0.4, length=-1.2)
    y[::7] = 0.5
    gy, gd, gh = rows(150, gain=-0.2, length=-2.0, seed=1)
    gamed = GamedRows(gy.tolist(), (gd / gd.std(ddof=1)).tolist(), gh.tolist())
    x = np.column_stack([np.tanh(d / d.std(ddof=1)), hard, np.ones(200)])
    also = np.column_stack([np.tanh(gd / gd.std(ddof=1)), gh, np.zeros(150)])
    weights = by_sklearn(np.vstack([also, x]), np.concatenate([gy, y]), np.repeat([0.1, 1.0], [150, 200]))
    expected = special.expit(weights[1] * hard + weights[2]).mean()
    assert alpaca_eval_rate(y, d, hard, gamed) == pytest.approx(expected, abs=2e-4)
    # Without its files the formula has the two terms that are left.
    plain = by_sklearn(x[:, [0, 2]], y, np.ones(200))
    assert alpaca_eval_rate(y, d) == pytest.approx(special.expit(plain[1]), abs=2e-4)


def test_a_judge_of_length_alone_is_corrected() -> None:
    """Longer wins with certainty more often than not; at equal length the two are equal."""
    y, d, _ = rows(2000, gain=0.0, length=-2.5)
    assert y.mean() > 0.6
    assert alpaca_eval_rate(y, d) == pytest.approx(0.5, abs=0.04)


def test_too_few_rows() -> None:
    with pytest.raises(ValueError, match="needs 5 rows or more, got 4"):
        alpaca_eval_rate([1, 0, 1, 0], [1, 2, 3, 4])
