"""Optimiser steps of a run, recommended values, and settings that do not fit the run's rows or model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from palate.charts.text import amount
from palate.config.run import RunConfig

# docs/tuning.md: small models need at least the first learning rate, LoRA ten times that of full fine-tuning.
_SMALL, _SMALL_RATE, _LORA_FACTOR = 500_000_000, 1e-5, 10
_FEW_STEPS, _ENOUGH_STEPS = 10, 30
_TRIAL = 5
"""With `max_steps` below this, a run is a trial."""
_FAR = 100
"""A learning rate that differs from the recommended one by this factor is a warning."""


def is_small(parameters: int) -> bool:
    """Whether a model of so many parameters needs the settings for small models."""
    return parameters < _SMALL


def recommended_rate(config: type[RunConfig], tuning: str, parameters: int) -> float:
    """The learning rate of docs/tuning.md for a stage's config class, a `finetuning_type` and a model size."""
    rate = max(float(config.model_fields["learning_rate"].default), _SMALL_RATE if is_small(parameters) else 0.0)
    return float(f"{rate * (_LORA_FACTOR if tuning == 'lora' else 1):.1e}")


def updates_of(config: RunConfig) -> int:
    """Optimiser steps on each batch of sampled answers; 1 for methods that sample none."""
    return int(getattr(config, "ppo_epochs", getattr(config, "num_iterations", 1)))


def step_count(config: RunConfig, rows: int, devices: int = 1) -> int:
    """Optimiser steps of a whole run with so many training rows."""
    if config.max_steps > 0:
        return config.max_steps
    per_step = config.per_device_train_batch_size * config.gradient_accumulation_steps * devices
    return max(1, math.ceil(config.num_train_epochs * -(-rows // per_step) * updates_of(config)))


def doubtful_settings(
    config: RunConfig, rows: int, held_out: int | None, *, devices: int = 1, parameters: int | None = None
) -> Iterator[str]:
    """A line with the remedy for each setting that does not fit.

    Args:
        rows: to train on.
        held_out: rows to evaluate on; None if it is not known.
        devices: processes that train.
        parameters: of the model; None leaves the learning rate unchecked.
    """
    steps = step_count(config, rows, devices)
    if 0 < config.max_steps < _TRIAL:
        epochs = f"num_train_epochs: {config.num_train_epochs:g}"
        yield f"max_steps: {config.max_steps} is a trial; leave it out to train {epochs}"
    elif config.max_steps < 0 and steps < _FEW_STEPS:
        yield f"{amount(rows, 'row')} make only {amount(steps, 'step')}; set {_more_steps(config, rows, devices)}"
    warmup = config.warmup_steps if config.warmup_steps >= 1 else 0
    if warmup >= steps and config.lr_scheduler_type != "constant":
        yield (
            f"warmup_steps: {warmup:g} of {amount(steps, 'step')}: the learning rate never stays at its peak; set "
            "warmup_ratio: 0.1 instead"
        )
    for key, strategy, without in (
        ("eval_steps", config.eval_strategy, "there is no evaluation before the end"),
        ("save_steps", config.save_strategy, "there is no checkpoint before the end"),
    ):
        interval = getattr(config, key)
        if strategy == "steps" and key in config.model_fields_set and interval > steps >= _FEW_STEPS:
            yield f"{key}: {interval:g} of {amount(steps, 'step')}: {without}; set {key}: {max(1, steps // 4)}"
    if held_out is not None and held_out < 2 and (config.val_size or config.eval_dataset):
        remedy = "name a larger eval_dataset" if config.eval_dataset else f"set val_size: {max(2, rows // 10)}"
        yield f"{amount(held_out, 'row')} held out, too few to measure anything; {remedy}"
    if parameters is not None:
        rate = recommended_rate(type(config), config.finetuning_type, parameters)
        times = config.learning_rate / rate
        if not 1 / _FAR < times < _FAR:
            change = f"{times:,.0f} times" if times > 1 else f"1/{1 / times:,.0f} of"
            yield (
                f"learning_rate: {config.learning_rate:g} is {change} what is recommended for finetuning_type: "
                f"{config.finetuning_type} and {parameters:,} parameters; set learning_rate: {rate:g}"
            )


def _more_steps(config: RunConfig, rows: int, devices: int) -> str:
    """The keys and values that make enough steps of the rows: less accumulation, smaller batches, more epochs."""
    batch = config.per_device_train_batch_size
    wanted = rows * config.num_train_epochs * updates_of(config) / (_ENOUGH_STEPS * devices)  # rows of a step
    smaller = {
        "gradient_accumulation_steps": min(config.gradient_accumulation_steps, max(1, int(wanted / batch))),
        "per_device_train_batch_size": min(batch, max(1, int(wanted))),
    }
    changed: dict[str, int] = {}
    for key, value in smaller.items():
        if value < getattr(config, key) and _steps_with(config, changed, rows, devices) < _FEW_STEPS:
            changed[key] = value
    steps = _steps_with(config, changed, rows, devices)
    if steps < _FEW_STEPS:
        changed["num_train_epochs"] = math.ceil(config.num_train_epochs * _FEW_STEPS / steps)
    return " and ".join(f"{key}: {value}" for key, value in changed.items())


def _steps_with(config: RunConfig, changed: Mapping[str, int], rows: int, devices: int) -> int:
    return step_count(config.model_copy(update=dict(changed)), rows, devices)
