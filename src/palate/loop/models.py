"""The models that a run's config stands for."""

from __future__ import annotations

from palate.config.run import RunConfig
from palate.evaluation.subject import ModelSpec


def starting_model(config: RunConfig) -> ModelSpec:
    """What a run starts from."""
    adapters = (config.adapter_name_or_path,) if config.adapter_name_or_path else ()
    return ModelSpec("start", config.model_name_or_path, adapters, config.template)


def trained_model(config: RunConfig) -> ModelSpec:
    """What a finished run left behind: a whole model, or an adapter on its base."""
    if config.finetuning_type == "lora":
        return ModelSpec("policy", config.model_name_or_path, (config.output_dir,), config.template)
    return ModelSpec("policy", config.output_dir, (), config.template)
