"""The keys of the health checks, which run at every step and evaluation."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from palate.config.base import Fields, setting
from palate.config.values import HealthAction


class HealthFields(Fields):
    """Health: checks of steps, sampled answers and held-out pairs. See [health](health.md)."""

    health: HealthAction = setting(
        "warn",
        "warn prints findings; stop also ends the run at the first evaluation with a finding and keeps the "
        "best checkpoint (needs load_best_model_at_end); off skips the checks of evaluations.",
    )
    health_loss_spike: float = setting(
        6.0, "Largest loss of a step, in standard deviations above the median of the last 20 steps.", gt=0
    )
    health_max_chosen_fall: float = setting(
        5.0, "Largest fall of log π(chosen) below the reference over 20 steps, in nats per answer.", gt=0
    )
    health_prompts: int = setting(8, "Number of fixed prompts answered at each evaluation; 0 samples nothing.", ge=0)
    health_max_new_tokens: int = setting(48, "Maximum length of those answers, in tokens.", ge=8)
    health_max_kl: float = setting(1.0, "Largest KL to the reference, in nats per token.", gt=0)
    health_max_loops: float = setting(
        0.25, "Largest rise of the share of answers that end in a repetition loop.", gt=0, le=1
    )
    health_min_distinct: float = setting(
        0.5, "Smallest number of distinct token bigrams, as a share of the reference's.", ge=0, le=1
    )
    health_max_unended: float = setting(0.4, "Largest fall of the share of answers that end their turn.", gt=0, le=1)
    health_length_ratio: float = setting(
        2.0, "Largest factor by which answers are longer or shorter than the reference's.", gt=1
    )
    health_min_entropy: float = setting(0.25, "Smallest entropy per token, as a share of the reference's.", ge=0, le=1)
    health_length_correlation: float = setting(
        0.7, "Largest correlation of held-out margins with differences in length.", gt=0, le=1
    )
    health_margin_growth: float = setting(
        3.0, "Largest growth factor of the training margin without a gain on held-out pairs.", gt=1
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
