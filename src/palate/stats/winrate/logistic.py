"""Logistic models of fractional outcomes with a ridge, and their cluster-robust covariance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SEPARATED = 15.0
"""A free coefficient beyond this has no finite maximum likelihood: outcomes are all equal where its column is not 0."""
_STEPS = 100
_HALVINGS = 30
_CONVERGED = 1e-10
_LONGEST_STEP = 5.0


def fit(design: Array, outcomes: Array, penalty: Array) -> Array | None:
    """The coefficients by Newton's method with step halving; None if it does not converge.

    Args:
        design: [R, P].
        outcomes: [R], in [0, 1].
        penalty: [P], λ of ½·Σ λ_p·coefficient_p² on the negative log-likelihood.
    """
    coefficients = np.zeros(design.shape[1])
    loss = _loss(design, outcomes, coefficients, penalty)
    for _ in range(_STEPS):
        fitted = sigmoid(design @ coefficients)
        gradient = design.T @ (outcomes - fitted) - penalty * coefficients
        try:
            step = np.linalg.solve(hessian(design, fitted, penalty), gradient)
        except np.linalg.LinAlgError:
            return None
        for halving in range(_HALVINGS):
            proposed = coefficients + step * 0.5**halving
            proposed_loss = _loss(design, outcomes, proposed, penalty)
            if proposed_loss <= loss:
                break
        else:  # no better point in this direction: at the minimum, up to rounding
            return coefficients if np.abs(gradient).max() < 1e-6 * len(outcomes) else None
        change = np.abs(proposed - coefficients).max()
        coefficients, loss = proposed, proposed_loss
        if np.abs(coefficients).max() > 100 * SEPARATED:
            return None
        if change < _CONVERGED * (1 + np.abs(coefficients).max()):
            return np.asarray(coefficients, dtype=np.float64)
    return np.asarray(coefficients, dtype=np.float64) if np.abs(gradient).max() < 1e-6 * len(outcomes) else None


def fit_separated(design: Array, outcomes: Array, penalty: Array) -> tuple[Array, Array] | None:
    """Firth's estimate and its inverse Hessian [P, P], finite for outcomes that are all equal too; None if it is not.

    The likelihood is multiplied by Jeffreys' prior, √det X'WX, so that the score has a term h·(½ − p) for each row, h
    its leverage (Firth 1993; for separated outcomes Heinze and Schemper 2002). Arguments as in `fit`.
    """
    coefficients = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        fitted = sigmoid(design @ coefficients)
        try:
            inverse = np.asarray(np.linalg.inv(hessian(design, fitted, penalty)), dtype=np.float64)
        except np.linalg.LinAlgError:
            return None
        leverage = fitted * (1 - fitted) * np.einsum("rp,pq,rq->r", design, inverse, design)
        step = inverse @ (design.T @ (outcomes - fitted + leverage * (0.5 - fitted)) - penalty * coefficients)
        coefficients = coefficients + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < _CONVERGED * (1 + np.abs(coefficients).max()):
            return coefficients, inverse
    return None


def hessian(design: Array, fitted: Array, penalty: Array) -> Array:
    """[P, P] Second derivative of the penalised negative log-likelihood at the fitted probabilities [R]."""
    weighted = design * (fitted * (1 - fitted))[:, None]
    return np.asarray(design.T @ weighted + np.diag(penalty), dtype=np.float64)


def sandwich(
    design: Array, outcomes: Array, coefficients: Array, penalty: Array, groups: npt.NDArray[np.int64]
) -> Array:
    """[P, P] H⁻¹ (Σ_g u_g u_g') H⁻¹ · G/(G−1), u_g the summed scores of cluster g (Liang and Zeger 1986)."""
    fitted = sigmoid(design @ coefficients)
    scores = design * (outcomes - fitted)[:, None]
    count = int(groups.max()) + 1
    summed = np.zeros((count, design.shape[1]))
    np.add.at(summed, groups, scores)
    bread = np.linalg.inv(hessian(design, fitted, penalty))
    return np.asarray(bread @ (summed.T @ summed) @ bread * (count / (count - 1)), dtype=np.float64)


def sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -700, 700))), dtype=np.float64)


def _loss(design: Array, outcomes: Array, coefficients: Array, penalty: Array) -> float:
    """Negative log-likelihood of fractional outcomes, plus the ridge."""
    logits = design @ coefficients
    return float((np.logaddexp(0, logits) - outcomes * logits).sum() + 0.5 * (penalty * coefficients**2).sum())
