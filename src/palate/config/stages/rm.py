"""Stage rm: a reward model, from choices, rankings or scores."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from palate.config.stages.optimisation import LearningRate, NoiseFields
from palate.config.stages.preference import ObjectiveChoice, ObjectiveName, option_field
from palate.config.stages.stage import Run


class RewardObjectiveFields(ObjectiveChoice):
    """What the reward head learns from, and how."""

    families = ("reward",)

    pref_loss: ObjectiveName = Field(
        "bradley_terry",
        description="The objective: bradley_terry (pairs), reward_plackett_luce (rankings) or reward_regression "
        "(answers with scores in 0 … 1).",
    )
    center_rewards_coefficient: float | None = option_field("center_rewards_coefficient")
    margin_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of a row's margin: bradley_terry then wants r_chosen above r_rejected by weight × margin. "
        "1 takes margins as they stand in the data.",
    )

    @model_validator(mode="after")
    def _margins_are_of_pairs(self) -> Any:
        if self.margin_weight and self.pref_loss != "bradley_terry":
            raise ValueError(
                f"margin_weight: {self.margin_weight:g} has no effect on pref_loss: {self.pref_loss}; remove the key, "
                "or take bradley_terry"
            )
        return self


class RmConfig(RewardObjectiveFields, NoiseFields, Run):
    """A reward model: the language model with a scalar head in place of its vocabulary, saved as a classifier."""

    stage: Literal["rm"] = Field("rm", description="Which kind of training this is.")
    learning_rate: LearningRate = 1e-5
