"""The models before and after a pipeline run, from its config."""

from __future__ import annotations

from dataclasses import replace

from palate.config.run import RunConfig
from palate.models.loading import spec
from palate.models.loading.spec import ModelSpec


def starting_model(config: RunConfig) -> ModelSpec:
    return spec.starting_model(config.resolved(), saved_in=config.output_dir)


def trained_model(config: RunConfig) -> ModelSpec:
    """The model of a finished run: a whole model, or an adapter on its base."""
    start = starting_model(config)
    if config.finetuning_type == "lora":
        return replace(start, name="policy", adapters=(*config.merged_adapters, config.output_dir))
    return replace(start, name="policy", model=config.output_dir, adapters=(), revision=None, tokens_of=())
