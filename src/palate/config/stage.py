"""What every stage's config has. A stage is a class that inherits `Run` and the topics it uses."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from palate.config.data import DataFields
from palate.config.model import ModelFields, TuningFields
from palate.config.optimisation import OptimisationFields
from palate.config.schedules import BY_EVALUATION
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
        if self.lr_scheduler_type in BY_EVALUATION and self.eval_strategy == "no":
            raise ValueError(
                f"lr_scheduler_type: {self.lr_scheduler_type} moves at evaluations, but eval_strategy is no: set "
                "eval_strategy: steps"
            )
        return self
