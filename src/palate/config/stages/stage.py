"""What every stage's config has. A stage is a class that inherits `Run` and the topics it uses."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from palate.config.stages.data import DataFields
from palate.config.stages.model import ModelFields, TuningFields, adapter_names, split_adapters
from palate.config.stages.optimisation import LOW_RANK_OPTIMISERS, OptimisationFields
from palate.config.stages.schedules import BY_EVALUATION
from palate.config.stages.trainer import DeviceFields, EvaluationFields, LogFields, OutputFields


class Run(
    DeviceFields, EvaluationFields, LogFields, OutputFields, OptimisationFields, DataFields, TuningFields, ModelFields
):
    """What every stage has."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that the run starts from."""
        return adapter_names(self.adapter_name_or_path)

    @property
    def merged_adapters(self) -> tuple[str, ...]:
        """Those that are merged into the model before training, in order."""
        return self._split_adapters()[0]

    @property
    def continued_adapter(self) -> str | None:
        """The one that training continues; None where a new one is made, or none trains."""
        return self._split_adapters()[1]

    def _split_adapters(self) -> tuple[tuple[str, ...], str | None]:
        return split_adapters(self.adapters, self.finetuning_type, create_new_adapter=self.create_new_adapter)

    @model_validator(mode="after")
    def _quantized_weights_cannot_be_merged_into(self) -> Any:
        if self.quantization_bit is not None and self.merged_adapters:
            raise ValueError(
                f"quantization_bit: {self.quantization_bit} takes a single adapter to continue; "
                f"{', '.join(self.merged_adapters)} would be merged into quantized weights"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_has_rows(self) -> Any:
        if self.eval_strategy != "no" and not self.val_size and self.eval_dataset is None:
            raise ValueError(
                f"eval_strategy: {self.eval_strategy} has nothing to evaluate on: set val_size: 0.1 or eval_dataset"
            )
        if self.optim.startswith(LOW_RANK_OPTIMISERS) and self.finetuning_type != "full":
            raise ValueError(
                f"optim: {self.optim} projects the gradients of whole matrices; set finetuning_type: full, not "
                f"{self.finetuning_type}"
            )
        if self.lr_scheduler_type in BY_EVALUATION and self.eval_strategy == "no":
            raise ValueError(
                f"lr_scheduler_type: {self.lr_scheduler_type} moves at evaluations, but eval_strategy is no: set "
                "eval_strategy: steps"
            )
        return self
