"""What transformers' Trainer is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch

from palate.config.load import config_from_values
from palate.config.stages.optimisation import Optimiser
from palate.config.stages.schedules import BY_EVALUATION, Schedule
from palate.data.parallel import all_cores
from palate.errors import ConfigError
from palate.models.precision import FP32, resolve
from palate.training.setup.arguments import check_installed, training_arguments
from runs import metrics, run
from tiny import save_tiny

CPU, GPU = torch.device("cpu"), torch.device("cuda")
VALUES = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o"}


def test_a_wandb_project_reaches_the_tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "somebody else's")
    config = config_from_values({**VALUES, "report_to": "wandb", "wandb_project": "mine"}).config
    training_arguments(config, tmp_path, FP32, torch.device("cpu"))
    assert os.environ["WANDB_PROJECT"] == "mine"


def test_a_share_of_the_steps_warms_up_and_a_nan_is_not_hidden(tmp_path: Path) -> None:
    config = config_from_values({**VALUES, "warmup_ratio": 0.1}).config
    arguments = training_arguments(config, tmp_path, FP32, torch.device("cpu"))
    assert arguments.warmup_steps == 0.1
    assert arguments.logging_nan_inf_filter is False
    assert arguments.bf16 is False
    assert arguments.use_cpu is True


def test_shares_and_schedule_settings_are_handed_over(tmp_path: Path) -> None:
    given = {"logging_steps": 0.1, "save_steps": 0.5, "eval_strategy": "steps", "eval_steps": 0.25, "val_size": 0.5}
    given |= {"warmup_steps": 0.2, "lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-9}}
    arguments = training_arguments(config_from_values({**VALUES, **given}).config, tmp_path, FP32, torch.device("cpu"))
    assert (arguments.logging_steps, arguments.save_steps, arguments.eval_steps) == (0.1, 0.5, 0.25)
    assert (arguments.warmup_steps, arguments.lr_scheduler_kwargs) == (0.2, {"min_lr": 1e-9})


def test_no_more_loaders_than_cores(tmp_path: Path) -> None:
    config = config_from_values({**VALUES, "dataloader_num_workers": 1000}).config
    arguments = training_arguments(config, tmp_path, FP32, torch.device("cpu"))
    assert arguments.dataloader_num_workers == all_cores()


@pytest.mark.parametrize("name", get_args(Optimiser))
def test_an_optimiser_without_its_package_is_refused_before_the_start(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that transformers gives from torch alone pass, the others name their package."""
    from torch import nn
    from transformers import Trainer

    monkeypatch.setattr("palate.training.setup.arguments.find_spec", lambda _name: None)
    monkeypatch.setattr("transformers.trainer_optimizer.is_bitsandbytes_available", lambda: False)
    config = config_from_values({**VALUES, "optim": name}).config
    arguments = training_arguments(config, tmp_path, FP32, torch.device("cpu"))
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments, nn.Linear(2, 2))
    except ImportError:
        with pytest.raises(ConfigError, match=rf"optim: {name} needs \w+, which is not installed: pip install \w+"):
            check_installed(config, GPU)
    else:
        check_installed(config, GPU)
        check_installed(config, CPU)


@pytest.mark.parametrize("name", get_args(Optimiser))
def test_an_optimiser_of_bitsandbytes_is_refused_on_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.training.setup.arguments.find_spec", lambda _name: object())
    config = config_from_values({**VALUES, "optim": name}).config
    check_installed(config, GPU)
    if "8bit" in name or "paged" in name or name.startswith(("adamw_bnb", "lion_")):
        with pytest.raises(ConfigError, match=rf"optim: {name} needs a GPU \(bitsandbytes\), this run is on a CPU"):
            check_installed(config, CPU)
    else:
        check_installed(config, CPU)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", True), ("fp32", False)])
def test_fsdp2_leaves_the_dtypes_to_autocast(precision: str, dtype: bool, tmp_path: Path) -> None:
    given = {**VALUES, "fsdp": True, "fsdp_config": {"version": 2}}
    arguments = training_arguments(config_from_values(given).config, tmp_path, resolve(precision, CPU), CPU)
    policy = arguments.fsdp_plugin_args["mixed_precision_policy"]
    assert (policy.param_dtype, policy.reduce_dtype, arguments.bf16) == (None, None, dtype)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fsdp": "whole"}, "Unknown `fsdp` option: whole"),
        ({"fsdp": True, "fsdp_config": {"transformer_layer_cls_to_wrap": 3}}, ""),
    ],
)
def test_what_transformers_refuses_in_fsdp_is_one_line(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^fsdp and fsdp_config: {said}"):
        training_arguments(config_from_values({**VALUES, **given}).config, tmp_path, FP32, CPU)


@pytest.mark.parametrize(
    ("switch", "package", "group"),
    [
        ({"use_galore": True}, "galore_torch", {"rank": 16, "update_proj_gap": 200, "scale": 2.0, "proj_type": "std"}),
        (
            {"use_galore": True, "galore_rank": 4, "galore_target": "mlp", "optim": "adamw_torch"},
            "galore_torch",
            {"rank": 4, "update_proj_gap": 200, "scale": 2.0, "proj_type": "std"},
        ),
        (
            {"use_apollo": True, "apollo_scale_type": "tensor"},
            "apollo_torch",
            {"rank": 16, "scale": 32.0, "proj": "random", "scale_type": "tensor", "update_proj_gap": 200},
        ),
    ],
)
def test_an_optimiser_of_low_rank_gets_its_matrices_and_settings(
    switch: dict[str, Any], package: str, group: dict[str, Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packages are not needed to see what transformers would tell their optimisers."""
    from transformers import AutoModelForCausalLM, Trainer

    fake: Any = ModuleType(package)
    for name in ("GaLoreAdamW", "GaLoreAdamW8bit", "GaLoreAdafactor", "APOLLOAdamW"):
        setattr(fake, name, type(name, (torch.optim.AdamW,), {}))
    monkeypatch.setitem(sys.modules, package, fake)
    monkeypatch.setattr(f"transformers.trainer_optimizer.is_{package}_available", lambda: True)
    loaded = config_from_values({**VALUES, **switch})
    arguments = training_arguments(loaded.config, Path("o"), FP32, torch.device("cpu"))
    made: Any = AutoModelForCausalLM.from_pretrained(model)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, made)
    assert kind.__name__ == ("GaLoreAdamW" if package == "galore_torch" else "APOLLOAdamW")
    others, projected = options.get("params") or options["optimizer_dict"]
    assert {name: projected[name] for name in group} == group
    names = {id(parameter): name for name, parameter in made.named_parameters()}
    modules = {names[id(parameter)].split(".")[-2] for parameter in projected["params"]}
    mlp = {"gate_proj", "up_proj", "down_proj"}
    assert modules == (mlp if "galore_target" in switch else {*mlp, "q_proj", "k_proj", "v_proj", "o_proj"})
    assert {names[id(parameter)].split(".")[-2] for parameter in others["params"]} >= {"embed_tokens", "norm"}
    assert any(line.startswith(f"{next(iter(switch))} is read as optim: ") for line in loaded.notices)


def test_sharding_without_its_package_or_file_is_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_from_values({**VALUES, "deepspeed": str(tmp_path / "ds.json")}).config
    monkeypatch.setattr("palate.training.setup.arguments.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="deepspeed needs the package deepspeed, which is not installed"):
        check_installed(config, CPU)
    monkeypatch.setattr("palate.training.setup.arguments.find_spec", lambda name: name)
    with pytest.raises(ConfigError, match=r"deepspeed: there is no file .*ds\.json"):
        check_installed(config, CPU)


SETTINGS: dict[str, dict[str, Any]] = {
    "cosine_with_restarts": {"num_cycles": 2},
    "cosine_with_min_lr": {"min_lr_rate": 0.5},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.5},
    "warmup_stable_decay": {"num_decay_steps": 2},
    "reduce_lr_on_plateau": {"factor": 0.5, "patience": 0, "threshold": 100.0, "threshold_mode": "abs"},
    "greedy": {"min_lr": 1e-6},
}
# Of four steps at a peak of 5e-3, by the formulas of the schedules.
RATES: dict[str, list[float]] = {
    "linear": [1.0, 0.75, 0.5, 0.25],
    "constant": [1.0, 1.0, 1.0, 1.0],
    "cosine_with_restarts": [1.0, 0.5, 1.0, 0.5],
    "cosine_with_min_lr": [1.0, 0.5 + 0.5 * 0.8535534, 0.75, 0.5 + 0.5 * 0.1464466],
    "warmup_stable_decay": [1.0, 1.0, 1.0, 0.5],
    # No evaluation is better by 100 nats than the first, which is the best so far; each later one halves the rate.
    "reduce_lr_on_plateau": [1.0, 1.0, 0.5, 0.25],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny", num_hidden_layers=1)


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_every_schedule_trains_and_falls_as_it_says(schedule: str, model: Path, tmp_path: Path) -> None:
    given = {"lr_scheduler_type": schedule, "lr_scheduler_kwargs": SETTINGS.get(schedule, {})}
    if schedule in BY_EVALUATION:
        given |= {"val_size": 2, "eval_strategy": "steps", "eval_steps": 1}
    run(model, tmp_path / "run", rows=10, max_steps=4, **given)
    rates = [row["learning_rate"] / 5e-3 for row in metrics(tmp_path / "run")]
    assert len(rates) == 4
    if schedule in RATES:
        assert rates == pytest.approx(RATES[schedule])
