"""The models of a run's config."""

from __future__ import annotations

from dataclasses import replace

from palate.config.run import RunConfig
from palate.evaluation.subject import ModelSpec


def starting_model(config: RunConfig) -> ModelSpec:
    """The model that a run starts from."""
    return ModelSpec(
        "start",
        config.model_name_or_path,
        config.adapters,
        config.template,
        config.model_revision,
        config.trust_remote_code,
        (config.output_dir,) if config.add_tokens or config.add_special_tokens else (),
    )


def trained_model(config: RunConfig) -> ModelSpec:
    """The model of a finished run: a whole model, or an adapter on its base."""
    start = starting_model(config)
    if config.finetuning_type == "lora":
        return replace(start, name="policy", adapters=(*config.merged_adapters, config.output_dir))
    return replace(start, name="policy", model=config.output_dir, adapters=(), revision=None, tokens_of=())
