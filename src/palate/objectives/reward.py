"""Losses for reward models: on pairs, rankings and scores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.objectives.ranked import plackett_luce_nll


def centred(rewards: Tensor, present: Tensor, *, centring: float) -> Tensor:
    """c·(Σ_k r_k)² per row, [n]; rewards [n, K]. Keeps rewards near 0: the other losses see only their differences."""
    return centring * torch.where(present, rewards, 0.0).sum(-1).square()


def bradley_terry(chosen: Tensor, rejected: Tensor, *, margin: Tensor | None = None, centring: float = 0.0) -> Tensor:
    """−log σ(r_c − r_r − margin) + c·(r_c + r_r)², [n]; chosen, rejected, margin [n] in units of reward."""
    difference = chosen - rejected
    if margin is not None:
        difference = difference - margin
    return -logsigmoid(difference) + centring * (chosen + rejected).square()


def reward_plackett_luce(rewards: Tensor, present: Tensor, *, centring: float = 0.0) -> Tensor:
    """Plackett–Luce on rewards [n, K], best first, present bool [n, K]; equals `bradley_terry` at K = 2, [n]."""
    return plackett_luce_nll(rewards, present) + centred(rewards, present, centring=centring)


def reward_regression(rewards: Tensor, scores: Tensor) -> Tensor:
    """(σ(r) − score)², [n]: regression on scores in [0, 1]; rewards, scores [n]."""
    return (torch.sigmoid(rewards) - scores).square()
