"""Stage kto: learning from single answers that are labelled as wanted or unwanted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from palate.config.stages.health import HealthFields
from palate.config.stages.optimisation import LearningRate, NoiseFields
from palate.config.stages.preference import ObjectiveChoice, ObjectiveName, ReferenceFields, SampleFields, option_field
from palate.config.stages.stage import Run


class UnpairedObjectiveFields(ObjectiveChoice):
    """The loss on single labelled answers and its options; objectives.md has their defaults and ranges."""

    families = ("unpaired",)

    pref_loss: ObjectiveName = Field("kto", description="The objective: kto, apo_zero_unpaired or bco.")
    pref_beta: float | None = option_field("pref_beta")
    kto_chosen_weight: float | None = option_field("kto_chosen_weight")
    kto_rejected_weight: float | None = option_field("kto_rejected_weight")
    pref_ftx: float | None = option_field("pref_ftx")
    kl_coef: float | None = option_field("kl_coef")


class KtoConfig(HealthFields, SampleFields, ReferenceFields, UnpairedObjectiveFields, NoiseFields, Run):
    """Preference training on single answers with a thumb up or down; pairs count as one of each."""

    stage: Literal["kto"] = Field("kto", description="Which kind of training this is.")
    learning_rate: LearningRate = 1e-6
