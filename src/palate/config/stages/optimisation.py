"""The keys of batches, steps and the optimiser."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from palate.config.base import Fields, setting
from palate.config.stages.schedules import Schedule, check_schedule
from palate.config.values import LoraTarget, Warmup

LearningRate: TypeAlias = Annotated[float, Field(gt=0, description="Peak learning rate.")]

# Optimisers of transformers. The 8-bit and paged ones need bitsandbytes; galore and apollo need packages of that name.
Optimiser: TypeAlias = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_bnb_8bit",
    "adamw_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "lion_8bit",
    "lion_32bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "adafactor",
    "rmsprop",
    "adagrad",
    "sgd",
    "galore_adamw",
    "galore_adamw_8bit",
    "galore_adafactor",
    "apollo_adamw",
]

LOW_RANK_OPTIMISERS = ("galore_", "apollo_")
"""Prefixes of optimisers that project gradients to a low rank."""


class NoiseFields(Fields):
    """Noise: added during training only, not in evaluation or to the reference."""

    neftune_noise_alpha: float = setting(
        0.0,
        "NEFTune: uniform noise up to α/√(L·d) on the embeddings, with L the tokens of prompt and longest "
        "answer and d the model's width; 5 to 15 are common, 0 is off. Switches trunk_cache off.",
        ge=0,
    )


class OptimisationFields(Fields):
    """Optimisation: batches, steps, optimiser and regularisation."""

    per_device_train_batch_size: int = setting(1, "Examples (pairs for dpo) per batch on each device.", ge=1)
    per_device_eval_batch_size: int = setting(8, "Examples per evaluation batch on each device.", ge=1)
    gradient_accumulation_steps: int = setting(
        1, "Batches per optimiser step; the loss is the exact mean over all of them.", ge=1
    )
    max_tokens_per_batch: int | Literal["auto"] = setting(
        "auto",
        "Maximum number of tokens computed at once. Larger batches are split to fit into memory, with the same result.",
    )
    num_train_epochs: float = setting(1.0, "Passes over the data.", gt=0)
    max_steps: int = setting(-1, "Number of optimiser steps; -1 uses num_train_epochs.", ge=-1)
    lr_scheduler_type: Schedule = setting("linear", "Learning rate schedule of transformers.")
    lr_scheduler_kwargs: dict[str, Any] = setting(
        {},
        "Further settings of the schedule, e.g. {min_lr: 1e-7} of cosine_with_min_lr or {num_cycles: 3} of "
        "cosine_with_restarts.",
    )
    warmup_ratio: float = setting(0.0, "Share of all steps in which the learning rate rises.", ge=0, lt=1)
    warmup_steps: Warmup = setting(
        0, "Steps (below 1: share of all steps) in which the learning rate rises; overrides warmup_ratio."
    )
    optim: Optimiser = setting("adamw_torch_fused", "Optimiser of transformers.")
    optim_args: str | None = setting(
        None, "Settings of galore_… and apollo_…, e.g. rank=16,update_proj_gap=200,scale=2.0,proj_type=std."
    )
    optim_target_modules: LoraTarget = setting(
        "all", "Modules with projected gradients (galore_…, apollo_…): all linear layers but the head, or a list."
    )
    weight_decay: float = setting(0.0, "Decoupled weight decay.", ge=0)
    adam_beta1: float = setting(0.9, "Decay of the gradient's running mean.", ge=0, lt=1)
    adam_beta2: float = setting(0.999, "Decay of the squared gradient's running mean.", ge=0, lt=1)
    adam_epsilon: float = setting(1e-8, "Term in the denominator of Adam.", gt=0)
    max_grad_norm: float = setting(1.0, "Gradient clipping by norm; 0 is off.", ge=0)
    dropout: float = setting(0.0, "Dropout in the model during training. Switches trunk_cache off.", ge=0, lt=1)
    moe_aux_loss_coef: float | None = setting(
        None,
        "Weight of the load-balancing loss of a mixture of experts, computed for each example; 0 is off.",
        shown="the model's router_aux_loss_coef if it has output_router_logits: true, else 0",
        ge=0,
    )
    seed: int = setting(42, "Random seed.", ge=0)
    data_seed: int | None = setting(None, "Seed for the order of examples.", shown="seed", ge=0)
    torch_threads: int | None = setting(None, "Number of CPU threads.", shown="chosen by torch", ge=1)

    @model_validator(mode="after")
    def _check_schedule(self) -> Any:
        check_schedule(self.lr_scheduler_type, self.lr_scheduler_kwargs)
        return self

    @model_validator(mode="after")
    def _check_counts(self) -> Any:
        if self.max_steps == 0:
            raise ValueError("max_steps must be -1 (leave it to num_train_epochs) or at least 1, not 0")
        if isinstance(self.max_tokens_per_batch, int) and self.max_tokens_per_batch < 1:
            raise ValueError(f"max_tokens_per_batch must be auto or at least 1, not {self.max_tokens_per_batch}")
        return self
