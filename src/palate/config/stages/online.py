"""The keys of the online stages: `ppo` has a value head, `grpo` compares groups of answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from palate.config.base import Fields, setting


class PpoFields(Fields):
    """PPO: proximal policy optimisation with a value head."""

    num_generations: int = setting(1, "Number of answers sampled for each prompt.", ge=1)
    ppo_epochs: int = setting(4, "Optimiser steps on each batch of sampled answers.", ge=1)
    kl_coef: float = setting(0.05, "KL penalty in the reward of a token: coefficient of log π − log π_ref.", ge=0)
    ppo_target: float | None = setting(
        None,
        "Target KL to the reference, in nats per answer; kl_coef adapts to reach it.",
        shown="kl_coef stays fixed",
        gt=0,
    )
    kl_horizon: int = setting(10000, "Number of answers over which kl_coef adapts.", ge=1)
    vf_coef: float = setting(0.1, "Weight of the value loss.", ge=0)
    cliprange_value: float = setting(0.2, "Clip range of the value in the value loss.", gt=0)
    gamma: float = setting(1.0, "Discount per token.", gt=0, le=1)
    lam: float = setting(0.95, "λ of the generalised advantage estimate.", ge=0, le=1)
    ppo_score_norm: bool = setting(False, "Normalise rewards by their running mean and standard deviation.")
    ppo_whiten_rewards: bool = setting(False, "Whiten token rewards before advantages are estimated.")


class GrpoFields(Fields):
    """GRPO and RLOO: advantages from comparing the answers to one prompt, without a value head."""

    advantage_estimator: Literal["grpo", "rloo"] = setting(
        "grpo",
        "grpo: reward minus the group's mean, KL in the loss; rloo: reward minus the mean of the other "
        "answers, KL in the reward.",
    )
    num_generations: int = setting(8, "Number of answers sampled for each prompt.", ge=2)
    num_iterations: int = setting(1, "Optimiser steps on each batch of sampled answers.", ge=1)
    kl_coef: float = setting(0.04, "Weight of the KL to the reference.", ge=0)
    cliprange_high: float | None = setting(
        None, "Upper clip range of the probability ratio.", shown="cliprange", gt=0, lt=1
    )
    scale_rewards: Literal["group", "batch", "none"] = setting(
        "group", "Reward scaling in grpo: by the group's standard deviation, the batch's, or none."
    )
    grpo_loss: Literal["grpo", "dapo", "dr_grpo"] = setting(
        "grpo",
        "Averaging of token losses: per answer, then over answers (grpo); over all tokens of the step "
        "(dapo); sum per answer divided by max_new_tokens (dr_grpo).",
    )

    @model_validator(mode="after")
    def _check_scale_rewards(self) -> Any:
        if self.advantage_estimator == "rloo" and "scale_rewards" in self.model_fields_set:
            raise ValueError("scale_rewards belongs to advantage_estimator: grpo; rloo does not scale rewards")
        return self
