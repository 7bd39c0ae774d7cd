"""Losses on single completions that are labelled as wanted or unwanted (K = 1 with a label)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.objectives.kl import kto_estimate


@dataclass(frozen=True, slots=True)
class UnpairedLogps:
    """Log-probabilities of n labelled completions, float32.

    Attributes:
        logps: [n], sum of log π(token) over the trained tokens, under the policy.
        ref_logps: [n], the same under the reference.
        tokens: [n], number of trained tokens in `logps`.
        desirable: bool [n], True if the completion is wanted.
        kl_logps: [m], sums for m mismatched completions (another row's answer to this row's prompt), of the whole step;
            None for objectives without a KL term.
        ref_kl_logps: [m], the same under the reference.
    """

    logps: Tensor
    ref_logps: Tensor
    tokens: Tensor
    desirable: Tensor
    kl_logps: Tensor | None = None
    ref_kl_logps: Tensor | None = None


def kl_estimate(rows: UnpairedLogps) -> Tensor:
    """`kl.kto_estimate` from the mismatched completions of a step, scalar."""
    if rows.kl_logps is None or rows.ref_kl_logps is None:
        raise ValueError("kto estimates a KL from mismatched completions, and the rows carry none")
    return kto_estimate(rows.kl_logps - rows.ref_kl_logps)


def kto(rows: UnpairedLogps, *, beta: float, desirable_weight: float = 1.0, undesirable_weight: float = 1.0) -> Tensor:
    """Kahneman–Tversky optimisation (2402.01306), [n]: λ_D(1 − σ(βu − z)) if wanted, λ_U(1 − σ(z − βu)) if not.

    u is the completion's log-ratio, z = β·`kl_estimate`.
    """
    gain = beta * (rows.logps - rows.ref_logps - kl_estimate(rows))
    wanted = desirable_weight * torch.sigmoid(-gain)
    unwanted = undesirable_weight * torch.sigmoid(gain)
    return torch.where(rows.desirable, wanted, unwanted)


def apo_zero_unpaired(
    rows: UnpairedLogps, *, beta: float, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> Tensor:
    """APO-zero without pairs (2408.06266), [n]: λ_D(1 − σ(βu)) if wanted, λ_U·σ(βu) if not. No KL term."""
    reward = beta * (rows.logps - rows.ref_logps)
    wanted = desirable_weight * torch.sigmoid(-reward)
    unwanted = undesirable_weight * torch.sigmoid(reward)
    return torch.where(rows.desirable, wanted, unwanted)


def bco(
    rows: UnpairedLogps,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    delta: Tensor | float | None = None,
) -> Tensor:
    """Binary classifier optimisation (2404.04656), [n]: −λ_D·log σ(βu − δ) if wanted, −λ_U·log σ(δ − βu) if not.

    δ is the running mean of all rewards, this step's included (`separate.RunningMean`); when None, the mean over these
    rows. No gradient flows through it.
    """
    reward = beta * (rows.logps - rows.ref_logps)
    if delta is None:
        delta = reward.detach().mean()
    wanted = -desirable_weight * logsigmoid(reward - delta)
    unwanted = -undesirable_weight * logsigmoid(delta - reward)
    return torch.where(rows.desirable, wanted, unwanted)
