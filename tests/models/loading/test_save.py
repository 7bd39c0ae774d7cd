"""What is saved has one dtype, which config.json names, whatever dtype frozen weights were kept in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from palate.models.loading.save import save_pretrained
from runs import run, weights
from tiny import save_tiny, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that bf16 holds exactly, so that a run in bf16 keeps the frozen ones in it."""
    folder = save_tiny(tmp_path_factory.mktemp("save") / "llama", "qwen2", initializer_range=0.2)
    rounded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    rounded.float().save_pretrained(folder)
    return folder


def dtypes(folder: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in weights(folder).values()}


@pytest.mark.parametrize(
    "changed",
    [
        {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
        {"finetuning_type": "full"},
        {"finetuning_type": "lora", "lora_rank": 2},
        {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "stage": "rm"},
        {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "stage": "sft"},
    ],
    ids=["freeze", "full", "lora", "rm", "sft"],
)
def test_a_run_saves_one_dtype_and_says_which(model: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    folder = tmp_path / "run"
    run(model, folder, precision="bf16", max_steps=1, save_strategy="steps", save_steps=1, **changed)
    for place in (folder, folder / "checkpoint-1"):
        assert dtypes(place) == {torch.float32}
        config = place / "config.json"
        if config.exists():
            assert json.loads(config.read_text())["dtype"] == "float32"


def test_frozen_weights_are_saved_as_they_were(model: Path, tmp_path: Path) -> None:
    """To widen bf16 loses nothing: the frozen layers of the saved model are those of the one it came from."""
    run(model, tmp_path / "run", precision="bf16", max_steps=1, finetuning_type="freeze", freeze_trainable_layers=1)
    before, after = weights(model), weights(tmp_path / "run")
    same = [name for name in before if torch.equal(before[name], after[name])]
    changed = [name for name in before if name not in same]
    assert all("layers.2." in name for name in changed)
    assert any("layers.0." in name for name in same)


def test_a_model_of_one_narrow_dtype_keeps_it(tmp_path: Path) -> None:
    model = tiny_model("qwen2").to(torch.bfloat16)
    save_pretrained(model, tmp_path)
    assert dtypes(tmp_path) == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_model_is_as_before_when_it_is_saved(tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    narrow = model.model.layers[0].mlp.up_proj
    narrow.weight.data = narrow.weight.data.to(torch.bfloat16)
    kept = narrow.weight.data_ptr()
    save_pretrained(model, tmp_path)
    assert dtypes(tmp_path) == {torch.float32}
    assert narrow.weight.dtype == torch.bfloat16
    assert narrow.weight.data_ptr() == kept
    gathered = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_pretrained(model, tmp_path / "gathered", state_dict=gathered)
    assert dtypes(tmp_path / "gathered") == {torch.float32}
