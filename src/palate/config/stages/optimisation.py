"""The keys of batches, steps and the optimiser."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from palate.config.base import Fields
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

    neftune_noise_alpha: float = Field(
        0.0,
        ge=0,
        description="NEFTune: uniform noise up to α/√(L·d) on the embeddings, with L the tokens of prompt and longest "
        "answer and d the model's width; 5 to 15 are common, 0 is off. Switches trunk_cache off.",
    )


class OptimisationFields(Fields):
    """Optimisation: batches, steps, optimiser and regularisation."""

    per_device_train_batch_size: int = Field(1, ge=1, description="Examples (pairs for dpo) per batch on each device.")
    per_device_eval_batch_size: int = Field(8, ge=1, description="Examples per evaluation batch on each device.")
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="Batches per optimiser step; the loss is the exact mean over all of them."
    )
    max_tokens_per_batch: int | Literal["auto"] = Field(
        "auto",
        description="Maximum number of tokens computed at once. Larger batches are split to fit into memory, with the "
        "same result.",
    )
    num_train_epochs: float = Field(1.0, gt=0, description="Passes over the data.")
    max_steps: int = Field(-1, ge=-1, description="Number of optimiser steps; -1 uses num_train_epochs.")
    lr_scheduler_type: Schedule = Field("linear", description="Learning rate schedule of transformers.")
    lr_scheduler_kwargs: dict[str, Any] = Field(
        {},
        description="Further settings of the schedule, e.g. {min_lr: 1e-7} of cosine_with_min_lr or {num_cycles: 3} of "
        "cosine_with_restarts.",
    )
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="Share of all steps in which the learning rate rises.")
    warmup_steps: Warmup = Field(
        0, description="Steps (below 1: share of all steps) in which the learning rate rises; overrides warmup_ratio."
    )
    optim: Optimiser = Field("adamw_torch_fused", description="Optimiser of transformers.")
    optim_args: str | None = Field(
        None, description="Settings of galore_… and apollo_…, e.g. rank=16,update_proj_gap=200,scale=2.0,proj_type=std."
    )
    optim_target_modules: LoraTarget = Field(
        "all",
        description="Modules with projected gradients (galore_…, apollo_…): all linear layers but the head, or a list.",
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the gradient's running mean.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the squared gradient's running mean.")
    adam_epsilon: float = Field(1e-8, gt=0, description="Term in the denominator of Adam.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradient clipping by norm; 0 is off.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout in the model during training. Switches trunk_cache off."
    )
    moe_aux_loss_coef: float | None = Field(
        None,
        ge=0,
        description="Weight of the load-balancing loss of a mixture of experts, computed for each example; 0 is off.",
        json_schema_extra={"default": "the model's router_aux_loss_coef if it has output_router_logits: true, else 0"},
    )
    seed: int = Field(42, ge=0, description="Random seed.")
    data_seed: int | None = Field(
        None, ge=0, description="Seed for the order of examples.", json_schema_extra={"default": "seed"}
    )
    torch_threads: int | None = Field(
        None, ge=1, description="Number of CPU threads.", json_schema_extra={"default": "chosen by torch"}
    )

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
