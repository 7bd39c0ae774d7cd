"""The config classes of a run: one for each stage, made of the topics in `stages/` that the stage uses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from pydantic import model_validator

from palate.config.base import Fields, setting
from palate.config.stages.data import DataFields
from palate.config.stages.health import HealthFields
from palate.config.stages.model import ModelFields, TuningFields, adapter_names, split_adapters
from palate.config.stages.online import GrpoFields, PpoFields
from palate.config.stages.optimisation import LOW_RANK_OPTIMISERS, LearningRate, NoiseFields, OptimisationFields
from palate.config.stages.preference import (
    ObjectiveFields,
    ReferenceFields,
    RewardObjectiveFields,
    SampleFields,
    UnpairedObjectiveFields,
)
from palate.config.stages.rollout import RolloutFields
from palate.config.stages.schedules import BY_EVALUATION
from palate.config.stages.trainer import DeviceFields, EvaluationFields, LogFields, OutputFields


def _stage(name: str) -> Any:
    return setting(name, "The kind of training.")


class Run(
    DeviceFields, EvaluationFields, LogFields, OutputFields, OptimisationFields, DataFields, TuningFields, ModelFields
):
    """The keys of every stage."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters of the starting model."""
        return adapter_names(self.adapter_name_or_path)

    @property
    def merged_adapters(self) -> tuple[str, ...]:
        """The adapters that are merged into the model before training, in order."""
        return self._split_adapters()[0]

    @property
    def continued_adapter(self) -> str | None:
        """The adapter that training continues; None if a new one is made, or none is trained."""
        return self._split_adapters()[1]

    def _split_adapters(self) -> tuple[tuple[str, ...], str | None]:
        return split_adapters(self.adapters, self.finetuning_type, create_new_adapter=self.create_new_adapter)

    @model_validator(mode="after")
    def _check_run(self) -> Any:
        if self.quantization_bit is not None and self.merged_adapters:
            raise ValueError(
                f"quantization_bit: {self.quantization_bit} takes a single adapter to continue; "
                f"{', '.join(self.merged_adapters)} would be merged into quantized weights"
            )
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
                f"lr_scheduler_type: {self.lr_scheduler_type} changes at evaluations, but eval_strategy is no: set "
                "eval_strategy: steps"
            )
        return self


class SftFields(Fields):
    """Trained turns: by default every answer after the first user turn of a conversation."""

    mask_history: bool = setting(False, "Train only the last answer of a conversation; the earlier ones are context.")
    train_on_prompt: bool = setting(
        False, "Train every token of the conversation, including system, user and tool turns."
    )

    @model_validator(mode="after")
    def _check_turns(self) -> Any:
        if self.mask_history and self.train_on_prompt:
            raise ValueError("mask_history and train_on_prompt contradict each other; keep one of them")
        return self


class SftConfig(SftFields, NoiseFields, Run):
    """Supervised fine-tuning on demonstrations; of pairs, the chosen answer is the demonstration."""

    stage: Literal["sft"] = _stage("sft")
    learning_rate: LearningRate = 1e-5


class RmConfig(RewardObjectiveFields, NoiseFields, Run):
    """A reward model: the language model with a scalar head instead of its LM head, saved as a classifier."""

    stage: Literal["rm"] = _stage("rm")
    learning_rate: LearningRate = 1e-5


class DpoConfig(HealthFields, SampleFields, ReferenceFields, ObjectiveFields, NoiseFields, Run):
    """Preference training on pairs and rankings: DPO and related losses, chosen by pref_loss."""

    stage: Literal["dpo"] = _stage("dpo")
    learning_rate: LearningRate = 5e-7


class KtoConfig(HealthFields, SampleFields, ReferenceFields, UnpairedObjectiveFields, NoiseFields, Run):
    """Preference training on single answers labelled good or bad; a pair counts as one of each."""

    stage: Literal["kto"] = _stage("kto")
    learning_rate: LearningRate = 1e-6


class OnlineRun(HealthFields, SampleFields, RolloutFields, Run):
    """The keys of both online stages."""

    @model_validator(mode="after")
    def _check_online(self) -> Any:
        if self.max_new_tokens >= self.cutoff_len:
            raise ValueError(
                f"max_new_tokens ({self.max_new_tokens}) leaves no room for a prompt in cutoff_len ({self.cutoff_len})"
            )
        judge = next((term.judge for term in self.rewards if term.judge is not None), None)
        if judge is not None and getattr(self, "num_generations", 2) < 2:
            raise ValueError(
                f"rewards: judge {judge} compares the answers to a prompt, and there is one; set num_generations: 4"
            )
        if self.fsdp or self.deepspeed:
            raise ValueError(
                "stage ppo and grpo sample in every process, which needs the whole model there: no sharding"
            )
        return self


class PpoConfig(PpoFields, OnlineRun):
    """PPO: answers sampled from the policy, rewards, and a value head for the advantages."""

    stage: Literal["ppo"] = _stage("ppo")
    learning_rate: LearningRate = 1e-6


class GrpoConfig(GrpoFields, OnlineRun):
    """GRPO and RLOO: groups of answers sampled from the policy; the advantage of an answer is relative to its group."""

    stage: Literal["grpo"] = _stage("grpo")
    learning_rate: LearningRate = 1e-6


RunConfig: TypeAlias = SftConfig | RmConfig | DpoConfig | KtoConfig | PpoConfig | GrpoConfig

STAGES: Mapping[str, type[RunConfig]] = MappingProxyType(
    {"sft": SftConfig, "rm": RmConfig, "dpo": DpoConfig, "kto": KtoConfig, "ppo": PpoConfig, "grpo": GrpoConfig}
)
