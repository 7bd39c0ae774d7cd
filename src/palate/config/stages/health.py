"""The keys of the health checks, which run at every step and evaluation."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from palate.config.base import Fields
from palate.config.values import HealthAction


class HealthFields(Fields):
    """Health: checks of steps, sampled answers and held-out pairs. See [health](health.md)."""

    health: HealthAction = Field(
        "warn",
        description="warn prints findings; stop also ends the run at the first evaluation with a finding and keeps the "
        "best checkpoint (needs load_best_model_at_end); off skips the checks of evaluations.",
    )
    health_loss_spike: float = Field(
        6.0, gt=0, description="Largest loss of a step, in standard deviations above the median of the last 20 steps."
    )
    health_max_chosen_fall: float = Field(
        5.0, gt=0, description="Largest fall of log π(chosen) below the reference over 20 steps, in nats per answer."
    )
    health_prompts: int = Field(
        8, ge=0, description="Number of fixed prompts answered at each evaluation; 0 samples nothing."
    )
    health_max_new_tokens: int = Field(48, ge=8, description="Maximum length of those answers, in tokens.")
    health_max_kl: float = Field(1.0, gt=0, description="Largest KL to the reference, in nats per token.")
    health_max_loops: float = Field(
        0.25, gt=0, le=1, description="Largest rise of the share of answers that end in a repetition loop."
    )
    health_min_distinct: float = Field(
        0.5, ge=0, le=1, description="Smallest number of distinct token bigrams, as a share of the reference's."
    )
    health_max_unended: float = Field(
        0.4, gt=0, le=1, description="Largest fall of the share of answers that end their turn."
    )
    health_length_ratio: float = Field(
        2.0, gt=1, description="Largest factor by which answers are longer or shorter than the reference's."
    )
    health_min_entropy: float = Field(
        0.25, ge=0, le=1, description="Smallest entropy per token, as a share of the reference's."
    )
    health_length_correlation: float = Field(
        0.7, gt=0, le=1, description="Largest correlation of held-out margins with differences in length."
    )
    health_margin_growth: float = Field(
        3.0, gt=1, description="Largest growth factor of the training margin without a gain on held-out pairs."
    )

    @model_validator(mode="after")
    def _check_stop(self) -> Any:
        if self.health == "stop" and not getattr(self, "load_best_model_at_end", True):
            raise ValueError("health: stop ends with the best checkpoint; set load_best_model_at_end: true")
        if self.health == "stop" and getattr(self, "eval_strategy", None) == "steps":
            evaluate, save = getattr(self, "eval_steps", 0), getattr(self, "save_steps", 0)
            if evaluate != save:
                raise ValueError(
                    "health: stop returns to the checkpoint of an evaluation: set save_steps to eval_steps "
                    f"({evaluate}), it is {save}"
                )
        return self


DEFAULT_LIMITS = HealthFields.model_validate({})
"""The limits for stages without these keys."""
