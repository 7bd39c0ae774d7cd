"""What a run is: one class for each stage, made of the topics that the stage uses.

A new stage is a class here (or in a file of its own, when it has topics of its own) and a row in `STAGES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from pydantic import Field, model_validator

from palate.config.data import DataFields
from palate.config.model import ModelFields, TuningFields
from palate.config.optimisation import LearningRate, OptimisationFields
from palate.config.preference import OBJECTIVE_KEYS, ObjectiveFields, ReferenceFields, SampleFields
from palate.config.trainer import DeviceFields, EvaluationFields, LogFields, OutputFields


class Run(
    DeviceFields, EvaluationFields, LogFields, OutputFields, OptimisationFields, DataFields, TuningFields, ModelFields
):
    """What every stage has."""

    @model_validator(mode="after")
    def _evaluation_has_rows(self) -> Any:
        if self.eval_strategy != "no" and not self.val_size and self.eval_dataset is None:
            raise ValueError(
                f"eval_strategy: {self.eval_strategy} has nothing to evaluate on: set val_size: 0.1 or eval_dataset"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Every key with the value that holds, as plain JSON values: what `run.json` and `palate plan` show."""
        return self.model_dump(mode="json")


class SftConfig(Run):
    """Supervised fine-tuning on demonstrations; pairs count as demonstrations of their chosen side."""

    stage: Literal["sft"] = Field("sft", description="Which kind of training this is.")
    learning_rate: LearningRate = 1e-5


class DpoConfig(SampleFields, ReferenceFields, ObjectiveFields, Run):
    """Preference training on pairs: DPO and its family, by pref_loss."""

    stage: Literal["dpo"] = Field("dpo", description="Which kind of training this is.")
    learning_rate: LearningRate = 5e-7

    def resolved(self) -> dict[str, Any]:
        """As for every stage; of the objectives' options those that the chosen one reads, with their values."""
        options = self.objective_options
        return {
            key: options.get(key, value)
            for key, value in super().resolved().items()
            if key in options or key not in OBJECTIVE_KEYS
        }


RunConfig: TypeAlias = SftConfig | DpoConfig

STAGES: Mapping[str, type[SftConfig] | type[DpoConfig]] = MappingProxyType({"sft": SftConfig, "dpo": DpoConfig})
