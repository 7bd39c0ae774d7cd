"""Every file in configs/ loads without a notice and is the recipe that it says it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.config.load import load_config
from palate.config.run import DpoConfig

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def preset(repository: Path, name: str) -> DpoConfig:
    config = load_config(repository / "configs" / f"{name}.yaml").config
    assert isinstance(config, DpoConfig)
    return config


def effective_batch(config: DpoConfig) -> int:
    return config.per_device_train_batch_size * config.gradient_accumulation_steps


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_loads_without_a_notice(path: Path) -> None:
    loaded = load_config(path)
    assert loaded.notices == ()
    assert loaded.config.output_dir.startswith("runs/")


def test_conservative(repository: Path) -> None:
    config = preset(repository, "conservative")
    assert (config.learning_rate, config.objective_options["pref_beta"], config.num_train_epochs) == (1e-7, 0.05, 1)
    assert effective_batch(config) == 16


def test_recommended(repository: Path) -> None:
    config = preset(repository, "recommended")
    assert (config.learning_rate, config.objective_options["pref_beta"]) == (5e-7, 0.1)
    assert 1 <= config.num_train_epochs <= 2
    assert effective_batch(config) == 32


def test_last_layers(repository: Path) -> None:
    config = preset(repository, "smollm_last_layers")
    assert (config.finetuning_type, config.freeze_trainable_layers) == ("freeze", 5)
    assert config.freeze_extra_modules == ["lm_head"]
    assert (config.pref_loss, config.objective_options["pref_beta"]) == ("sigmoid_norm", 0.8)
    assert (config.learning_rate, config.weight_decay, config.optim) == (1e-4, 1e-2, "adamw_torch")
    assert (effective_batch(config), config.cutoff_len, config.max_samples) == (8, 512, 1000)


def test_lora_and_sft(repository: Path) -> None:
    assert preset(repository, "lora").finetuning_type == "lora"
    assert load_config(repository / "configs" / "sft.yaml").config.stage == "sft"
