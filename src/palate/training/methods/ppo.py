"""PPO (1707.06347) on sampled answers: shaped rewards, a value head, GAE, clipped policy and value losses."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from palate.config.run import PpoConfig
from palate.models.scoring.logps import Logps
from palate.objectives.policy_gradient import (
    adapted_kl_coefficient,
    clipped_policy_loss,
    clipped_value_loss,
    generalised_advantages,
    shaped_rewards,
)
from palate.records import Record
from palate.training.methods import online
from palate.training.methods.base import LossOutput, Rows, Traits
from palate.training.processes import highest_over_ranks, sum_over_ranks

# Rounding error of a float32 result after a few operations, relative to its largest input.
_ROUNDING = 1e-6


class Ppo(online.OnlineMethod):
    """Clipped policy loss plus `vf_coef` times the clipped value loss, averaged over all tokens of the step.

    With `ppo_target` the KL coefficient adapts to the measured KL; with `ppo_score_norm` scores are normalised by their
    running mean and standard deviation. Checkpoints contain both, and the range of all scores.
    """

    traits = Traits(name="ppo", record=Record, needs_reference=True, head="value", counts_tokens=True)

    def __init__(self, config: PpoConfig) -> None:
        self.generations = config.num_generations
        self.updates = config.ppo_epochs
        self._config = config
        self.kl_coef = config.kl_coef
        # Running count, mean and sum of squared deviations of the rewards (Welford).
        self._count, self._mean, self._squares = 0.0, 0.0, 0.0
        self._lowest, self._highest = math.inf, -math.inf

    def prepare(self, sampled: online.Sampled, *, training: bool) -> Mapping[str, Tensor]:
        assert sampled.values is not None
        config = self._config
        scores = sampled.scores - config.missing_eos_penalty * (~sampled.ended)
        scores = self._effective_scores(scores, sampled.counted & sampled.rewarded, training).float()
        rewards = shaped_rewards(scores, sampled.log_ratio, sampled.mask, kl_coef=self.kl_coef)
        noise = self._noise(sampled, scores)
        if config.ppo_whiten_rewards:
            rewards = online.global_whitened(rewards, sampled.counted_mask, centre=False, noise=noise)
        advantages, returns = generalised_advantages(
            rewards, sampled.values, sampled.mask, gamma=config.gamma, lam=config.lam
        )
        # The return of an answer without a reward is unknown: its values are their own targets.
        returns = torch.where(sampled.rewarded[:, None], returns, sampled.values)
        coefficient = torch.full_like(scores, self.kl_coef)
        if training and config.ppo_target is not None:
            rows = int(sum_over_ranks(sampled.counted.double().sum()))
            observed = float(online.global_mean(sampled.kl, sampled.counted))
            self.kl_coef = adapted_kl_coefficient(
                self.kl_coef, observed, target=config.ppo_target, horizon=config.kl_horizon, rows=rows
            )
        return {
            "old_logps": sampled.logps,
            "old_values": sampled.values,
            "returns": returns,
            "advantages": online.global_whitened(advantages, sampled.counted_mask, noise=noise),
            "kl_coef": coefficient,
        }

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        """Losses and metrics of the groups; the rewards already contain the KL to the reference."""
        del reference, training
        assert policy.values is not None
        config, logps, device = self._config, policy.token_logps, policy.values.device
        names = ("old_logps", "old_values", "returns", "advantages", "kl_coef")
        given = online.tokens_of(rows.groups, names, device)
        policy_loss = clipped_policy_loss(
            logps, given["old_logps"], given["advantages"], clip_low=config.cliprange, clip_high=config.cliprange
        )
        value_loss = clipped_value_loss(
            policy.values, given["old_values"], given["returns"], clip=config.cliprange_value
        )
        loss = online.mean_by_group(policy_loss + config.vf_coef * value_loss, rows)
        with torch.no_grad():
            clipped = ((logps - given["old_logps"]).exp() - 1).abs() > config.cliprange
            tokens = {
                "policy_loss": policy_loss,
                "value_loss": value_loss,
                "clip_fraction": clipped.float(),
                "entropy": -logps,
                "values": policy.values,
                "kl_coef": given["kl_coef"],
            }
            token_metrics = {name: online.mean_by_group(value, rows) for name, value in tokens.items()}
        answer_metrics, weights = online.sampled_metrics(rows.groups, device)
        return LossOutput(loss, {**token_metrics, **answer_metrics}, weights)

    def _effective_scores(self, scores: Tensor, counted: Tensor, training: bool) -> Tensor:
        """Scores, normalised with `ppo_score_norm`, and 0 for answers without one; float64 [n].

        While all scores of the run are equal, they count as 0, so that a constant reward changes neither policy nor
        values.
        """
        normalised = self._normalised(scores, counted, training) if self._config.ppo_score_norm else scores
        if training:
            highest, negated = highest_over_ranks(
                torch.stack([torch.where(counted, sign * scores, -math.inf).amax() for sign in (1, -1)])
            ).tolist()
            self._highest, self._lowest = max(self._highest, highest), min(self._lowest, -negated)
        known = ~scores.isnan() if self._lowest < self._highest else torch.zeros_like(counted)
        return torch.where(known, normalised, 0.0)

    def _noise(self, sampled: online.Sampled, scores: Tensor) -> float:
        """The standard deviation up to which advantages differ only by rounding."""
        assert sampled.values is not None
        largest = [
            torch.where(sampled.counted_mask, part, 0.0).abs().amax()
            for part in (scores[:, None], sampled.values, self.kl_coef * sampled.logps)
        ]
        return _ROUNDING * float(highest_over_ranks(torch.stack(largest).amax()))

    def _normalised(self, scores: Tensor, counted: Tensor, training: bool) -> Tensor:
        """Scores [n] with the running mean 0 and standard deviation 1."""
        if training:
            n, mean, squares = sum_over_ranks(
                torch.stack(
                    [
                        counted.double().sum(),
                        torch.where(counted, scores, 0.0).double().sum(),
                        torch.where(counted, scores.square(), 0.0).double().sum(),
                    ]
                )
            ).tolist()
            self._update_statistics(n, mean / max(n, 1.0), squares)
        deviation = (self._squares / max(self._count - 1, 1)) ** 0.5 if self._count > 1 else 1.0
        return (scores - self._mean) / max(deviation, 1e-8)

    def _update_statistics(self, count: float, mean: float, sum_of_squares: float) -> None:
        """Merge a batch into the running mean and variance (Chan et al.)."""
        if count == 0:
            return
        squares = max(0.0, sum_of_squares - count * mean * mean)
        merged, difference = self._count + count, mean - self._mean
        self._squares += squares + difference * difference * self._count * count / merged
        self._mean += difference * count / merged
        self._count = merged

    @property
    def state(self) -> Mapping[str, float]:
        state = {"kl_coef": self.kl_coef, "count": self._count, "mean": self._mean, "squares": self._squares}
        seen = {"lowest": self._lowest, "highest": self._highest} if self._lowest <= self._highest else {}
        return {**state, **seen}

    @state.setter
    def state(self, state: Mapping[str, float]) -> None:
        self.kl_coef = state["kl_coef"]
        self._count, self._mean, self._squares = state["count"], state["mean"], state["squares"]
        # A checkpoint of an earlier version lacks the range: its scores are then used as they are.
        self._lowest, self._highest = state.get("lowest", -math.inf), state.get("highest", math.inf)
