"""Stage sft: imitation of demonstrations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from palate.config.base import Fields
from palate.config.stages.optimisation import LearningRate, NoiseFields
from palate.config.stages.stage import Run


class SftFields(Fields):
    """Which turns of a conversation are trained. By default: every answer after the first user turn."""

    mask_history: bool = Field(
        False, description="Train only the last answer of a conversation; the earlier ones are context."
    )
    train_on_prompt: bool = Field(
        False, description="Train every token of the conversation, including system, user and tool turns."
    )

    @model_validator(mode="after")
    def _history_is_masked_or_trained(self) -> Any:
        if self.mask_history and self.train_on_prompt:
            raise ValueError("mask_history and train_on_prompt contradict each other; keep one of them")
        return self


class SftConfig(SftFields, NoiseFields, Run):
    """Supervised fine-tuning on demonstrations; pairs count as demonstrations of their chosen side."""

    stage: Literal["sft"] = Field("sft", description="Which kind of training this is.")
    learning_rate: LearningRate = 1e-5
