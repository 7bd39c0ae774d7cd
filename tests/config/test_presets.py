"""Every file in configs/ loads without a notice and is the recipe that it says it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from palate.config.load import load_config
from palate.config.pipeline import is_pipeline, load_pipeline
from palate.config.run import DpoConfig
from palate.config.sweep import is_sweep, load_sweep

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def preset(repository: Path, name: str) -> DpoConfig:
    config = load_config(repository / "configs" / f"{name}.yaml").config
    assert isinstance(config, DpoConfig)
    return config


def effective_batch(config: DpoConfig) -> int:
    return config.per_device_train_batch_size * config.gradient_accumulation_steps


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_loads_without_a_notice(path: Path) -> None:
    loaded: Any
    if is_sweep(path):
        loaded = load_sweep(path)
        assert len(loaded.points) > 1
        folder = loaded.output_dir
    elif is_pipeline(path):
        loaded = load_pipeline(path)
        assert len(loaded.runs) > 1
        folder = loaded.output_dir
    else:
        loaded = load_config(path)
        folder = loaded.config.output_dir
    assert loaded.notices == ()
    assert str(folder).startswith("runs/")


def test_the_table_of_recipes_has_them_all(repository: Path) -> None:
    table = (repository / "configs" / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in CONFIGS} == set(re.findall(r"`(\w+)`", table))


ELSEWHERE = {"qlora_8b", "fsdp_8b"}
"""Those that need a GPU, or several."""


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem not in ELSEWHERE], ids=lambda path: path.stem)
def test_it_runs_on_a_tiny_model(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # These need torch, the other tests do not.
    from palate.models.loading.builtin import SMOLLM2
    from tiny import save_tiny

    model = save_tiny(tmp_path / "model", num_hidden_layers=6)
    row = {"prompt": "q{}", "chosen": "a {}", "rejected": "b {}"}
    scores = {"helpfulness": {"chosen": 2, "rejected": 1}, "safety": {"chosen": 1, "rejected": 2}}
    rows = [{**{key: text.format(n) for key, text in row.items()}, "dimensions": scores} for n in range(24)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    for old, new in {"Qwen/Qwen3-8B": model, SMOLLM2: model, "pairs_with_dimensions.jsonl": data}.items():
        text = text.replace(old, str(new))
    Path(path.name).write_text(text, encoding="utf-8")
    few = ["max_steps=1", "max_samples=16", "per_device_train_batch_size=4", "gradient_accumulation_steps=1"]
    if path.stem in ("ppo", "grpo"):
        few.append("max_new_tokens=8")
    if path.stem == "online_dpo":
        few += ["candidate_max_new_tokens=8", "rounds=2"]
    two = {
        "sweep": "{pref_beta: [0.05, 0.5]}",
        "multi_objective": "{dimension_weights: [{helpfulness: 1, safety: 0}, {helpfulness: 0.5, safety: 0.5}]}",
    }
    if path.stem in two:
        few.append(f"sweep={two[path.stem]}")
    if path.stem not in ("sft", "rm", "smollm_reward", "stages"):
        few += ["sample_prompts=1", "sample_max_new_tokens=4", "health=off"]
    assert main(["train", path.name, *few]) == 0


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
