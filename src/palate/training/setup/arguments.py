"""transformers' `TrainingArguments` from a config, and checks for the packages that a config needs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import TrainingArguments

from palate.config.run import RunConfig
from palate.config.stages.optimisation import LOW_RANK_OPTIMISERS
from palate.data.parallel import all_cores
from palate.errors import ConfigError
from palate.models.precision import Precision
from palate.training.deepspeed import engine_settings

# Prefix of an optimiser's name → the package that implements it.
_PACKAGES = {
    **dict.fromkeys(("adamw_bnb", "adamw_8bit", "paged_", "lion_"), "bitsandbytes"),
    "galore_": "galore_torch",
    "apollo_": "apollo_torch",
}
# Keys of a config that TrainingArguments have under the same name.
_SAME_NAME = (
    *("num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size"),
    *("gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "max_grad_norm", "optim", "weight_decay"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "seed", "data_seed", "run_name"),
    *("logging_steps", "eval_strategy", "save_strategy", "save_total_limit", "save_only_model"),
    *("load_best_model_at_end", "ddp_timeout", "fsdp", "fsdp_config"),
)
# Tracker → what to install; the others come with palate.
_TRACKER_PACKAGES = {"wandb": "palate[wandb]", "mlflow": "palate[mlflow]", "trackio": "trackio"}
_WANDB_OFFLINE = ("offline", "disabled", "dryrun")
# As LLaMA-Factory's `all`: every linear layer but the head.
_EVERY_LINEAR = r"(?!.*(?:lm_head|score)).+"


def check_installed(config: RunConfig, device: torch.device) -> None:
    """Raise ConfigError if a key needs a package, a file or a device that is missing; transformers fails in mid-run."""
    package = next((package for prefix, package in _PACKAGES.items() if config.optim.startswith(prefix)), None)
    if package is not None and find_spec(package) is None:
        install = f"pip install {package.replace('_', '-')}"
        raise ConfigError(f"optim: {config.optim} needs {package}, which is not installed: {install}; or adamw_torch")
    if device.type == "cpu" and ("8bit" in config.optim or package == "bitsandbytes"):
        raise ConfigError(f"optim: {config.optim} needs a GPU (bitsandbytes), this run is on a CPU; use adamw_torch")
    if config.deepspeed and find_spec("deepspeed") is None:
        raise ConfigError(
            "deepspeed needs the package deepspeed, which is not installed: pip install deepspeed; or use fsdp"
        )
    for key in ("deepspeed", "fsdp_config"):
        path = getattr(config, key)
        if isinstance(path, str) and not Path(path).is_file():
            raise ConfigError(f"{key}: there is no file {path}")
    sharding = next((key for key in ("deepspeed", "fsdp") if getattr(config, key)), None)
    if sharding is not None and "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            f"{sharding}: start with torchrun, one process too: torchrun --nproc_per_node 1 -m palate train CONFIG.yaml"
        )


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that could not start, before anything is computed.

    Args:
        names: `report_to` of the config.

    Raises:
        ConfigError: a package is missing, there is no key for W&B or its server refuses it, or MLflow does not answer.
    """
    for name, package in _TRACKER_PACKAGES.items():
        if name in names and find_spec(name) is None:
            raise ConfigError(f"report_to: {name} needs its package: pip install '{package}', or leave it out")
    if "mlflow" in names:
        mlflow = importlib.import_module("mlflow")  # an optional extra
        try:
            mlflow.MlflowClient().search_experiments(max_results=1)
        except mlflow.exceptions.MlflowException:  # its text may show a password in the address
            raise ConfigError(
                "report_to: MLflow does not answer at MLFLOW_TRACKING_URI; correct it, or leave mlflow out"
            ) from None
    if "wandb" in names:
        _check_wandb()


def _check_wandb() -> None:
    if os.environ.get("WANDB_MODE", "").lower() in _WANDB_OFFLINE:
        return
    wandb = importlib.import_module("wandb")  # an optional extra
    offline = "set WANDB_MODE=offline to log without the network, or leave wandb out of report_to"
    try:
        logged_in = wandb.login(prompt=False)
    except wandb.errors.Error as error:
        why = str(error).strip().splitlines()[0]
        raise ConfigError(f"report_to: wandb does not take the key ({why}); log in again, or {offline}") from None
    if not logged_in:
        raise ConfigError(f"report_to: wandb has no key: set WANDB_API_KEY or run `wandb login`, {offline}")


def training_arguments(
    config: RunConfig, folder: Path, precision: Precision, device: torch.device
) -> TrainingArguments:
    """Arguments for `PalateTrainer`.

    Args:
        config: a resolved run.
        folder: the run directory, for checkpoints and TensorBoard events.
        precision: resolved for the device, so that fp16 never trains on a CPU.
        device: of this process.
    """
    further: dict[str, Any] = {}
    if config.eval_strategy == "steps":
        further["eval_steps"] = config.eval_steps
    if config.save_strategy == "steps":
        further["save_steps"] = config.save_steps
    if config.project:
        further["project"] = config.project
    if config.wandb_project and "wandb" in config.report_to:
        # transformers' W&B callback reads the project from the environment only.
        os.environ["WANDB_PROJECT"] = config.wandb_project
    if config.optim.startswith(LOW_RANK_OPTIMISERS):
        modules = config.optim_target_modules
        further["optim_args"] = config.optim_args
        further["optim_target_modules"] = _EVERY_LINEAR if modules == "all" else modules
    if config.gradient_checkpointing:
        # Renamed in transformers 5.23, which warns of the old name.
        known = {field.name for field in fields(TrainingArguments)}
        name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
        further |= {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    metric, greater = config.best_metric
    try:
        arguments = TrainingArguments(
            output_dir=str(folder),
            use_cpu=device.type == "cpu",
            bf16=precision.autocast is torch.bfloat16,
            fp16=precision.autocast is torch.float16,
            lr_scheduler_kwargs=dict(config.lr_scheduler_kwargs),
            # Below 1 it is a share of the steps.
            warmup_steps=config.warmup_steps or config.warmup_ratio,
            logging_first_step=True,
            logging_nan_inf_filter=False,
            deepspeed=engine_settings(config),
            metric_for_best_model=metric,
            greater_is_better=greater,
            report_to=config.report_to or "none",
            # Older transformers (5.5) send metrics to a Space named trackio unless told otherwise.
            trackio_space_id=os.environ.get("TRACKIO_SPACE_ID"),
            # More than one for each core is slower, and torch warns of it.
            dataloader_num_workers=min(config.dataloader_num_workers, all_cores()),
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            average_tokens_across_devices=False,
            disable_tqdm=True,
            log_level="error",
            **{name: getattr(config, name) for name in _SAME_NAME},
            **further,
        )
    except (TypeError, ValueError) as error:
        if not config.fsdp:
            raise
        raise ConfigError(f"fsdp and fsdp_config: {error}") from error  # transformers reads what is in them
    if arguments.fsdp_plugin_args and arguments.fsdp_plugin_args.get("fsdp_version") == 2:
        # Autocast chooses the dtypes, as in one process. accelerate's policy would gather embeddings and norms in 16
        # bits and add up gradients in them, and torch 2.13 fails on it where frozen weights have 16 bits.
        arguments.fsdp_plugin_args.setdefault("mixed_precision_policy", MixedPrecisionPolicy())
        # `models.loading.shards` does it; transformers would leave out weights of other processes as it reads them.
        arguments.fsdp_plugin_args["cpu_ram_efficient_loading"] = False
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    return arguments
