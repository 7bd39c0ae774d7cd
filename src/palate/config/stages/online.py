"""The online stages: `ppo`, with a value head, and `grpo`, with groups of answers in place of one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from palate.config.base import Fields
from palate.config.stages.health import HealthFields
from palate.config.stages.optimisation import LearningRate
from palate.config.stages.preference import SampleFields
from palate.config.stages.rollout import RolloutFields
from palate.config.stages.stage import Run


class OnlineRun(HealthFields, SampleFields, RolloutFields, Run):
    """What both online stages have."""

    @model_validator(mode="after")
    def _answers_leave_room_for_prompts(self) -> Any:
        if self.max_new_tokens >= self.cutoff_len:
            raise ValueError(
                f"max_new_tokens ({self.max_new_tokens}) leaves no room for a prompt in cutoff_len ({self.cutoff_len})"
            )
        return self

    @model_validator(mode="after")
    def _a_judge_has_two_answers_to_compare(self) -> Any:
        judge = next((term.judge for term in self.rewards if term.judge is not None), None)
        if judge is not None and getattr(self, "num_generations", 2) < 2:
            raise ValueError(
                f"rewards: judge {judge} compares the answers to a prompt, and there is one; set num_generations: 4"
            )
        return self

    @model_validator(mode="after")
    def _whole_model_samples(self) -> Any:
        if self.fsdp or self.deepspeed:
            raise ValueError(
                "stage ppo and grpo sample in every process, which needs the whole model there: no sharding"
            )
        return self


class PpoFields(Fields):
    """Proximal policy optimisation with a value head."""

    num_generations: int = Field(1, ge=1, description="Answers sampled to each prompt.")
    ppo_epochs: int = Field(4, ge=1, description="Optimiser steps on each batch of sampled answers.")
    kl_coef: float = Field(
        0.05, ge=0, description="Reward taken off per nat that a token's log-probability exceeds the reference's."
    )
    ppo_target: float | None = Field(
        None,
        gt=0,
        description="KL to the reference, in nats per answer, that kl_coef adapts itself to.",
        json_schema_extra={"default": "kl_coef stays fixed"},
    )
    kl_horizon: int = Field(10000, ge=1, description="Answers over which kl_coef adapts itself.")
    vf_coef: float = Field(0.1, ge=0, description="Weight of the value loss.")
    cliprange_value: float = Field(0.2, gt=0, description="How far a value moves in the value loss.")
    gamma: float = Field(1.0, gt=0, le=1, description="Discount from token to token.")
    lam: float = Field(0.95, ge=0, le=1, description="λ of the generalised advantage estimate.")
    ppo_score_norm: bool = Field(False, description="Divide rewards by their running standard deviation, mean removed.")
    ppo_whiten_rewards: bool = Field(False, description="Whiten the rewards of tokens before advantages are estimated.")


class PpoConfig(PpoFields, OnlineRun):
    """PPO: the policy samples, rewards and a value head judge, clipped steps follow."""

    stage: Literal["ppo"] = Field("ppo", description="Which kind of training this is.")
    learning_rate: LearningRate = 1e-6


class GrpoFields(Fields):
    """Answers to one prompt compared with each other, in place of a value head."""

    advantage_estimator: Literal["grpo", "rloo"] = Field(
        "grpo",
        description="grpo: reward less the group's mean, KL in the loss; rloo: reward less the mean of the others, KL "
        "in the reward.",
    )
    num_generations: int = Field(8, ge=2, description="Answers sampled to each prompt, which are compared.")
    num_iterations: int = Field(1, ge=1, description="Optimiser steps on each batch of sampled answers.")
    kl_coef: float = Field(0.04, ge=0, description="Weight of the KL to the reference.")
    cliprange_high: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Upper clip of the probability ratio.",
        json_schema_extra={"default": "cliprange"},
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="Reward scaling in grpo: by the group's standard deviation, the batch's, or none."
    )
    grpo_loss: Literal["grpo", "dapo", "dr_grpo"] = Field(
        "grpo",
        description="How tokens are averaged: over each answer, then over answers (grpo); over all tokens of the step "
        "(dapo); summed over each answer and divided by max_new_tokens (dr_grpo).",
    )

    @model_validator(mode="after")
    def _rloo_scales_nothing(self) -> Any:
        if self.advantage_estimator == "rloo" and "scale_rewards" in self.model_fields_set:
            raise ValueError("scale_rewards belongs to advantage_estimator: grpo; rloo divides by nothing")
        return self


class GrpoConfig(GrpoFields, OnlineRun):
    """GRPO and RLOO: the policy samples groups of answers, and those that beat their group gain."""

    stage: Literal["grpo"] = Field("grpo", description="Which kind of training this is.")
    learning_rate: LearningRate = 1e-6
