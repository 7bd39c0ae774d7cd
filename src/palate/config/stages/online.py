"""The keys of the online stages: `ppo` has a value head, `grpo` compares groups of answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from palate.config.base import Fields


class PpoFields(Fields):
    """PPO: proximal policy optimisation with a value head."""

    num_generations: int = Field(1, ge=1, description="Number of answers sampled for each prompt.")
    ppo_epochs: int = Field(4, ge=1, description="Optimiser steps on each batch of sampled answers.")
    kl_coef: float = Field(
        0.05, ge=0, description="KL penalty in the reward of a token: coefficient of log π − log π_ref."
    )
    ppo_target: float | None = Field(
        None,
        gt=0,
        description="Target KL to the reference, in nats per answer; kl_coef adapts to reach it.",
        json_schema_extra={"default": "kl_coef stays fixed"},
    )
    kl_horizon: int = Field(10000, ge=1, description="Number of answers over which kl_coef adapts.")
    vf_coef: float = Field(0.1, ge=0, description="Weight of the value loss.")
    cliprange_value: float = Field(0.2, gt=0, description="Clip range of the value in the value loss.")
    gamma: float = Field(1.0, gt=0, le=1, description="Discount per token.")
    lam: float = Field(0.95, ge=0, le=1, description="λ of the generalised advantage estimate.")
    ppo_score_norm: bool = Field(False, description="Normalise rewards by their running mean and standard deviation.")
    ppo_whiten_rewards: bool = Field(False, description="Whiten token rewards before advantages are estimated.")


class GrpoFields(Fields):
    """GRPO and RLOO: advantages from comparing the answers to one prompt, without a value head."""

    advantage_estimator: Literal["grpo", "rloo"] = Field(
        "grpo",
        description="grpo: reward minus the group's mean, KL in the loss; rloo: reward minus the mean of the other "
        "answers, KL in the reward.",
    )
    num_generations: int = Field(8, ge=2, description="Number of answers sampled for each prompt.")
    num_iterations: int = Field(1, ge=1, description="Optimiser steps on each batch of sampled answers.")
    kl_coef: float = Field(0.04, ge=0, description="Weight of the KL to the reference.")
    cliprange_high: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Upper clip range of the probability ratio.",
        json_schema_extra={"default": "cliprange"},
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="Reward scaling in grpo: by the group's standard deviation, the batch's, or none."
    )
    grpo_loss: Literal["grpo", "dapo", "dr_grpo"] = Field(
        "grpo",
        description="Averaging of token losses: per answer, then over answers (grpo); over all tokens of the step "
        "(dapo); sum per answer divided by max_new_tokens (dr_grpo).",
    )

    @model_validator(mode="after")
    def _check_scale_rewards(self) -> Any:
        if self.advantage_estimator == "rloo" and "scale_rewards" in self.model_fields_set:
            raise ValueError("scale_rewards belongs to advantage_estimator: grpo; rloo does not scale rewards")
        return self
