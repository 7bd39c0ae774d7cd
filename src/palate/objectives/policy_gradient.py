"""Online objectives: advantages, clipped policy and value losses, and the KL controller.

Token tensors are [n, T], n completions padded to T tokens with a bool `mask` [n, T]; losses are per token.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from palate.objectives.kl import LARGEST_LOG_RATIO


def adapted_kl_coefficient(coefficient: float, observed: float, *, target: float, horizon: float, rows: int) -> float:
    """The KL coefficient after `rows` rollouts with mean KL `observed`, in nats per completion (1909.08593).

    coefficient·(1 + e·rows/horizon), e = observed/target − 1 clipped to ±0.2.
    """
    error = min(max(observed / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + error * rows / horizon)


def shaped_rewards(scores: Tensor, kl: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """PPO's reward of each token, [n, T]: −kl_coef·kl everywhere, plus the completion's score at its last token.

    scores [n]; kl [n, T] per token (k1, see `kl`), detached here; a completion without tokens gets no reward.
    """
    rewards = torch.where(mask, -kl_coef * kl.detach(), 0.0)
    later = mask.flip(-1).cumsum(-1).flip(-1)
    return rewards + torch.where(mask & (later == 1), scores[:, None], 0.0)


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """GAE (1506.02438): advantages and returns (advantages + values), each [n, T], detached.

    A_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γV_{t+1} − V_t, V = 0 after the last token. The mask's tokens are contiguous
    within a row; padding on either side stays 0.
    """
    rewards, values = (torch.where(mask, tensor.detach(), 0.0) for tensor in (rewards, values))
    advantages = torch.zeros_like(rewards)
    following = rewards.new_zeros(rewards.shape[0])
    next_value = torch.zeros_like(following)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = torch.where(mask[:, t], delta + gamma * lam * following, 0.0)
        advantages[:, t] = following
        next_value = values[:, t]
    return advantages, torch.where(mask, advantages + values, 0.0)


def rloo_advantages(rewards: Tensor) -> Tensor:
    """Leave-one-out (2402.14740): each reward minus the mean of its group's others; rewards, result [n, G], G ≥ 2.

    A group of equal rewards gets exactly 0. NaN marks a missing reward: it gets 0 and is left out of the mean.
    """
    if rewards.shape[1] < 2:
        raise ValueError("rloo compares completions of one prompt: it needs at least 2 of each")
    centred, count = _centred(rewards)
    return centred * (count / (count - 1).clamp(min=1))


def grpo_advantages(rewards: Tensor, *, scale: Literal["group", "none"] = "group") -> Tensor:
    """Rewards centred on their group's mean (2402.03300); rewards, result [n, G], G ≥ 2.

    Divided by the group's sample standard deviation, or not at all (Dr. GRPO, 2503.20783). A group of equal rewards
    gets exactly 0. NaN marks a missing reward: it gets 0 and is left out of mean and standard deviation.
    """
    if rewards.shape[1] < 2:
        raise ValueError("grpo compares completions of one prompt: it needs at least 2 of each")
    centred, count = _centred(rewards)
    if scale == "none":
        return centred
    deviation = (centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return centred / (deviation + 1e-4)


def _centred(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards [n, G] minus their group's mean, and the number of rewards of each group, [n, 1]; NaN (missing) gets 0.

    Equal rewards get exactly 0: their mean may differ from them by rounding, and Adam turns even the smallest gradient
    into a full step.
    """
    given = ~rewards.isnan()
    count = given.sum(-1, keepdim=True)
    mean = torch.where(given, rewards, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
    lowest = torch.where(given, rewards, math.inf).amin(-1, keepdim=True)
    highest = torch.where(given, rewards, -math.inf).amax(-1, keepdim=True)
    return torch.where(given & (lowest < highest), rewards - mean, 0.0), count


def clipped_policy_loss(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, *, clip_low: float = 0.2, clip_high: float = 0.2
) -> Tensor:
    """PPO (1707.06347) per token: max(−A·ρ, −A·clip(ρ, 1−clip_low, 1+clip_high)), ρ = π/π_old, any shape."""
    log_ratio = (logps - old_logps.detach()).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    ratio = torch.exp(log_ratio)
    advantages = advantages.detach()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high))


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float = 0.2) -> Tensor:
    """½·max((V − R)², (V_clipped − R)²) per token, V_clipped within ±clip of the value at sampling time, any shape."""
    old_values, returns = old_values.detach(), returns.detach()
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())
