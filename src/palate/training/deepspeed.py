"""DeepSpeed: the settings that its engine gets, and its part in a training step."""

from __future__ import annotations

import copy
from typing import Any

import torch

from palate.artifacts import read_json
from palate.config.run import RunConfig
from palate.errors import ConfigError
from palate.training.processes import process_count


def engine_settings(config: RunConfig) -> dict[str, Any] | None:
    """The mapping or JSON file under `deepspeed`, completed: `max_grad_norm` holds, and saved models have all weights.

    Raises:
        ConfigError: a value contradicts this config's, or the file sets what this config sets (optimiser, schedule).
        ArtifactError: the file is no JSON.
    """
    if not config.deepspeed:
        return None
    named = config.deepspeed if isinstance(config.deepspeed, str) else "the mapping"
    given = read_json(config.deepspeed) if isinstance(config.deepspeed, str) else copy.deepcopy(config.deepspeed)
    if not isinstance(given, dict) or not isinstance(given.get("zero_optimization", {}), dict):
        raise ConfigError(f"deepspeed: {named} must be a mapping of DeepSpeed's keys, zero_optimization a mapping too")
    for key, keys in {"optimizer": "optim and learning_rate", "scheduler": "lr_scheduler_type"}.items():
        if key in given:
            raise ConfigError(f"deepspeed: remove {key} from {named}; {keys} of this config hold")
    rows, batches = config.per_device_train_batch_size, config.gradient_accumulation_steps
    for key, name, own in (
        ("train_micro_batch_size_per_gpu", "per_device_train_batch_size", rows),
        ("gradient_accumulation_steps", "gradient_accumulation_steps", batches),
        ("train_batch_size", "a step's examples", rows * batches * process_count()),
        ("gradient_clipping", "max_grad_norm", config.max_grad_norm),
    ):
        if given.setdefault(key, "auto") not in ("auto", own):
            raise ConfigError(f'deepspeed: {key} is {given[key]} in {named}, but {name}: {own}; write "auto" there')
    if given.get("zero_optimization", {}).get("stage") == 3:
        given["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    return given


def accumulate(engine: Any, loss: torch.Tensor, *, last: bool) -> None:
    """Add a loss's gradients to those of the step.

    Args:
        engine: a `deepspeed.DeepSpeedEngine`.
        loss: scalar.
        last: whether it is the step's last pass, after which the ranks share their gradients.
    """
    engine.set_gradient_accumulation_boundary(is_boundary=last)
    engine.backward(loss, scale_wrt_gas=False)  # the loss is divided by the weights of the whole step already


def update(engine: Any) -> float:
    """Change the weights by the step's gradients; returns their norm before it is limited."""
    if engine.zero_optimization_stage() == 0 and not engine.bfloat16_enabled() and not engine.fp16_enabled():
        # torch's own optimiser: DeepSpeed does not keep the norm.
        grads = [weight.grad for weight in engine.module.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        engine.step()
        return float(norm)
    engine.step()
    return float(engine.get_global_grad_norm())
