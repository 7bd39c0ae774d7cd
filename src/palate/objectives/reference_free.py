"""Losses on pairs that need no reference model: only the policy's own log-probabilities.

ā = a/nc and b̄ = b/nr are per-token means, in nats per token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.objectives.paired import PairLogps

# At a mean log-probability of 0 the odds are infinite; up to this one they are finite in float32.
_NEARLY_CERTAIN = -1e-6
_HALF = -0.6931471805599453


def mean_logps(pairs: PairLogps) -> tuple[Tensor, Tensor]:
    """ā, b̄ [n]: log π of chosen and rejected per trained token."""
    return pairs.chosen / pairs.chosen_tokens.clamp(min=1), pairs.rejected / pairs.rejected_tokens.clamp(min=1)


def log_odds(logp: Tensor) -> Tensor:
    """log(p / (1 − p)) of p = exp(logp), any shape, stable from logp = −∞ up to 0."""
    logp = logp.clamp(max=_NEARLY_CERTAIN)
    # log(1 − e^v) in two forms, each used where it is exact. The unused form gets a safe value, because its gradient
    # would otherwise be NaN.
    near = logp > _HALF
    close = torch.log(-torch.expm1(torch.where(near, logp, _HALF)))
    far = torch.log1p(-torch.exp(torch.where(near, _HALF, logp)))
    return logp - torch.where(near, close, far)


def simpo(pairs: PairLogps, *, beta: float, gamma: float = 1.0) -> Tensor:
    """SimPO (2405.14734): −log σ(β(ā − b̄) − γ), [n]; γ is in units of reward."""
    chosen, rejected = mean_logps(pairs)
    return -logsigmoid(beta * (chosen - rejected) - gamma)


def orpo(pairs: PairLogps, *, weight: float = 0.1) -> Tensor:
    """ORPO (2403.07691): −ā − λ·log σ(log-odds(ā) − log-odds(b̄)), [n]; λ is `weight`."""
    chosen, rejected = mean_logps(pairs)
    return -chosen - weight * logsigmoid(log_odds(chosen) - log_odds(rejected))


def cpo(pairs: PairLogps, *, beta: float, alpha: float = 1.0) -> Tensor:
    """CPO (2401.08417): −log σ(β(a − b)) − α·ā, [n]."""
    chosen, _ = mean_logps(pairs)
    return -logsigmoid(beta * (pairs.chosen - pairs.rejected)) - alpha * chosen
