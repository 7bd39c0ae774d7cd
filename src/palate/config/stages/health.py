"""What is watched at every evaluation, and what happens when it goes wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from palate.config.base import Fields


def _word(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


HealthAction: TypeAlias = Annotated[Literal["warn", "stop", "off"], BeforeValidator(_word)]


class HealthFields(Fields):
    """What is watched in a run: its steps, sampled answers and held-out pairs. See [health](health.md)."""

    health: HealthAction = Field(
        "warn",
        description="warn says what is seen; stop also ends the run at the first evaluation that shows a sign, with "
        "the best checkpoint (needs load_best_model_at_end); off does not look at evaluations.",
    )
    health_loss_spike: float = Field(
        6.0, gt=0, description="A loss this many standard deviations above the last 20 steps' median is a sign."
    )
    health_max_chosen_fall: float = Field(
        5.0, gt=0, description="Chosen this far below the reference over 20 steps is a sign, in nats per answer."
    )
    health_prompts: int = Field(8, ge=0, description="Fixed prompts answered at each evaluation; 0 samples nothing.")
    health_max_new_tokens: int = Field(48, ge=8, description="Longest of those answers, in tokens.")
    health_max_kl: float = Field(1.0, gt=0, description="KL to the reference above this is a sign, in nats per token.")
    health_max_loops: float = Field(
        0.25, gt=0, le=1, description="Rise of the share of answers that end in a loop above this is a sign."
    )
    health_min_distinct: float = Field(
        0.5, ge=0, le=1, description="Distinct pairs of tokens below this share of the reference's are a sign."
    )
    health_max_unended: float = Field(
        0.4, gt=0, le=1, description="Fall of the share of answers that end their turn above this is a sign."
    )
    health_length_ratio: float = Field(
        2.0, gt=1, description="Answers longer or shorter than the reference's by more than this factor are a sign."
    )
    health_min_entropy: float = Field(
        0.25, ge=0, le=1, description="Entropy per token below this share of the reference's is a sign."
    )
    health_length_correlation: float = Field(
        0.7, gt=0, le=1, description="Correlation of held-out margins with length differences above this is a sign."
    )
    health_margin_growth: float = Field(
        3.0, gt=1, description="Growth of the training margin above this factor, without held-out gain, is a sign."
    )

    @model_validator(mode="after")
    def _stopping_keeps_the_best(self) -> Any:
        if self.health == "stop" and not getattr(self, "load_best_model_at_end", True):
            raise ValueError("health: stop ends with the best checkpoint; set load_best_model_at_end: true")
        if self.health == "stop" and getattr(self, "eval_strategy", None) == "steps":
            evaluate, save = getattr(self, "eval_steps", 0), getattr(self, "save_steps", 0)
            if evaluate != save:
                raise ValueError(
                    f"health: stop goes back to an evaluation, so each needs its checkpoint: set save_steps to "
                    f"eval_steps ({evaluate}), it is {save}"
                )
        return self


DEFAULT_LIMITS = HealthFields.model_validate({})
"""What stages that have no such keys are held to."""
