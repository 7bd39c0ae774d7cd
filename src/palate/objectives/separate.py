"""Losses on pairs that use the log-ratios of chosen and rejected separately, not only their difference.

They push each log-ratio in its own direction (chosen up, rejected down); a loss of the difference also falls when both
log-ratios fall. Notation as in `paired`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.objectives.kl import kto_estimate
from palate.objectives.paired import PairLogps, log_ratios


@dataclass(frozen=True, slots=True)
class RunningMean:
    """The mean of all rewards since training began: BCO's reward shift δ.

    Attributes:
        count: number of rewards.
        mean: their mean, in units of reward.
    """

    count: int = 0
    mean: float = 0.0

    def updated(self, rewards: Tensor) -> RunningMean:
        """The mean with `rewards` [m] (of the whole step, all ranks) added."""
        added = rewards.numel()
        if added == 0:
            return self
        count = self.count + added
        mean = self.mean + (float(rewards.detach().double().mean()) - self.mean) * added / count
        return RunningMean(count, mean)


def nca_pair(pairs: PairLogps, *, beta: float) -> Tensor:
    """NCA (2402.05369): −log σ(βΔc) − ½·log σ(−βΔc) − ½·log σ(−βΔr), [n]."""
    chosen, rejected = log_ratios(pairs)
    return -logsigmoid(beta * chosen) - 0.5 * logsigmoid(-beta * chosen) - 0.5 * logsigmoid(-beta * rejected)


def bco_pair(pairs: PairLogps, *, beta: float, delta: Tensor | float | None = None) -> Tensor:
    """Binary classifier optimisation (2404.04656): −log σ(βΔc − δ) − log σ(−(βΔr − δ)), [n].

    δ is the running mean of all rewards, including this step's (`RunningMean`); if None, the mean over these pairs, as
    at the first step. No gradient flows through it.
    """
    chosen, rejected = log_ratios(pairs)
    if delta is None:
        delta = 0.5 * beta * (chosen + rejected).detach().mean()
    return -logsigmoid(beta * chosen - delta) - logsigmoid(delta - beta * rejected)


def sppo_hard(pairs: PairLogps, *, beta: float) -> Tensor:
    """SPPO with hard labels (2405.00675): (Δc − 1/(2β))² + (Δr + 1/(2β))², [n], in squared nats per completion."""
    chosen, rejected = log_ratios(pairs)
    target = 0.5 / beta
    return (chosen - target).square() + (rejected + target).square()


def apo_zero(pairs: PairLogps, *, beta: float) -> Tensor:
    """APO-zero (2408.06266): 1 − σ(βΔc) + σ(βΔr), [n]: chosen up, rejected down."""
    chosen, rejected = log_ratios(pairs)
    return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


def apo_down(pairs: PairLogps, *, beta: float) -> Tensor:
    """APO-down (2408.06266): σ(βΔc) + 1 − σ(β(Δc − Δr)), [n]: both down, rejected further."""
    chosen, rejected = log_ratios(pairs)
    return torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected))


def kto_pair(
    pairs: PairLogps, *, beta: float, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> Tensor:
    """KTO on the two halves of a pair: ½·λ_D(1 − σ(βΔc − z_r)) + ½·λ_U(1 − σ(z_c − βΔr)), [n].

    z_r = max(0, β·mean Δr) and z_c = max(0, β·mean Δc) over the step, detached. As in TRL's and LLaMA-Factory's
    `kto_pair`, each half gives the KL estimate for the other half. `unpaired.kto` follows the paper and estimates the
    KL from mismatched completions.
    """
    chosen, rejected = log_ratios(pairs)
    kl_chosen, kl_rejected = beta * kto_estimate(chosen), beta * kto_estimate(rejected)
    wanted = desirable_weight * torch.sigmoid(kl_rejected - beta * chosen)
    unwanted = undesirable_weight * torch.sigmoid(beta * rejected - kl_chosen)
    return 0.5 * (wanted + unwanted)
