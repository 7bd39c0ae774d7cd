"""What a run is: one class for each stage, made of the topics that the stage uses.

A new stage is a class here (or in a file of its own, when it has topics of its own) and a row in `STAGES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from pydantic import Field

from palate.config.stages.health import HealthFields
from palate.config.stages.kto import KtoConfig
from palate.config.stages.online import GrpoConfig, PpoConfig
from palate.config.stages.optimisation import LearningRate, NoiseFields
from palate.config.stages.preference import ObjectiveFields, ReferenceFields, SampleFields
from palate.config.stages.rm import RmConfig
from palate.config.stages.sft import SftConfig
from palate.config.stages.stage import Run

__all__ = [
    "STAGES",
    "DpoConfig",
    "GrpoConfig",
    "KtoConfig",
    "PpoConfig",
    "RmConfig",
    "Run",
    "RunConfig",
    "SftConfig",
]


class DpoConfig(HealthFields, SampleFields, ReferenceFields, ObjectiveFields, NoiseFields, Run):
    """Preference training on pairs and rankings: DPO and its family, by pref_loss."""

    stage: Literal["dpo"] = Field("dpo", description="Which kind of training this is.")
    learning_rate: LearningRate = 5e-7


RunConfig: TypeAlias = SftConfig | RmConfig | DpoConfig | KtoConfig | PpoConfig | GrpoConfig

STAGES: Mapping[str, type[RunConfig]] = MappingProxyType(
    {"sft": SftConfig, "rm": RmConfig, "dpo": DpoConfig, "kto": KtoConfig, "ppo": PpoConfig, "grpo": GrpoConfig}
)
