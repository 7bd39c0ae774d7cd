"""GRPO (2402.03300) and RLOO (2402.14740): answers to one prompt are compared with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from palate.config.run import GrpoConfig
from palate.models.scoring.logps import Logps
from palate.objectives.kl import k3
from palate.objectives.policy_gradient import clipped_policy_loss, grpo_advantages, rloo_advantages
from palate.records import Record
from palate.training.methods import online
from palate.training.methods.base import LossOutput, Rows, Traits
from palate.training.processes import sum_over_ranks


class Grpo(online.OnlineMethod):
    """Clipped policy loss with one advantage for all tokens of an answer; `grpo_loss` chooses the average over tokens.

    The KL to the reference is a penalty on every token (grpo, k3 estimate) or part of the reward (rloo).
    """

    def __init__(self, config: GrpoConfig) -> None:
        self.traits = Traits(
            name=config.advantage_estimator,
            record=Record,
            needs_reference=True,
            counts_tokens=config.grpo_loss == "dapo",
        )
        self.generations = config.num_generations
        self.updates = config.num_iterations
        self._config = config
        self._high = config.cliprange if config.cliprange_high is None else config.cliprange_high

    def prepare(self, sampled: online.Sampled, *, training: bool) -> Mapping[str, Tensor]:
        del training
        scores = sampled.scores - self._config.missing_eos_penalty * (~sampled.ended)
        advantages = self._advantages(scores.view(-1, self.generations), sampled)
        return {
            "old_logps": sampled.logps,
            "ref_logps": sampled.ref_logps,
            "advantages": advantages.flatten().float(),
        }

    def _advantages(self, scores: Tensor, sampled: online.Sampled) -> Tensor:
        """Advantages [groups, K] of scores [groups, K]; a batch's standard deviation is over all ranks."""
        if self._config.advantage_estimator == "rloo":
            # Advantages of the KL are computed separately: added to a reward of 1e6, the KL would be rounded away.
            kl = torch.where(sampled.rewarded, sampled.kl, math.nan).view_as(scores)
            return rloo_advantages(scores) - self._config.kl_coef * rloo_advantages(kl)
        scale = self._config.scale_rewards
        if scale != "batch":
            return grpo_advantages(scores, scale=scale)
        flat, counted = scores.flatten(), sampled.counted & sampled.rewarded
        n = float(sum_over_ranks(counted.double().sum()))
        variance = online.global_mean((flat - online.global_mean(flat, counted)).square(), counted)
        deviation = (variance * n / max(n - 1, 1)).sqrt()
        return grpo_advantages(scores, scale="none") / (deviation + 1e-4)

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        del reference, training  # the groups carry the reference's log-probabilities
        config, logps = self._config, policy.token_logps
        given = online.tokens_of(rows.groups, ("old_logps", "ref_logps", "advantages"), logps.device)
        # The first step on new answers starts from the policy that sampled them: its ratio is 1.
        old = given["old_logps"] if self.updates > 1 else logps.detach()
        tokens = clipped_policy_loss(logps, old, given["advantages"], clip_low=config.cliprange, clip_high=self._high)
        if config.advantage_estimator == "grpo" and config.kl_coef:
            tokens = tokens + config.kl_coef * k3(logps - given["ref_logps"])
        with torch.no_grad():
            ratio = (logps - old).exp()
            clipped = (ratio > 1 + self._high) | (ratio < 1 - config.cliprange)
            token_metrics = {
                "clip_fraction": online.mean_by_group(clipped.float(), rows),
                "entropy": online.mean_by_group(-logps, rows),
            }
        answer_metrics, weights = online.sampled_metrics(rows.groups, logps.device)
        return LossOutput(self._reduced(tokens, rows), {**token_metrics, **answer_metrics}, weights)

    def _reduced(self, tokens: Tensor, rows: Rows) -> Tensor:
        """Reduce token losses [M] to one loss per group, [G]."""
        if self._config.grpo_loss == "dapo":
            return online.mean_by_group(tokens, rows)
        zeros = tokens.new_zeros(rows.completions)
        sums = zeros.index_add(0, rows.completion_of, tokens)
        if self._config.grpo_loss == "grpo":
            sums = sums / zeros.index_add(0, rows.completion_of, torch.ones_like(tokens)).clamp(min=1)
        else:
            sums = sums / self._config.max_new_tokens
        return tokens.new_zeros(len(rows.groups)).index_add(0, rows.group_of, sums) / self.generations
