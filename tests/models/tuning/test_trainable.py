"""What trains: the last layers with an untied head, and an adapter that goes on; each saved and loaded equal."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from palate.errors import ConfigError, ModelError
from palate.models.reward_model import RewardModel
from palate.models.tuning import trainable
from palate.records import Message
from runs import config, metrics, run, run_json, weights
from tiny import save_tiny, tiny_model

LORA = {"finetuning_type": "lora", "lora_rank": 4, "learning_rate": 2e-2, "per_device_train_batch_size": 4}
TOKENS = torch.arange(3, 20)[None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with a tied head."""
    return save_tiny(tmp_path_factory.mktemp("tuning") / "llama", initializer_range=0.2)


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "run"
    run(model, folder, **LORA)
    return folder


def logits(folder: Path, adapter: Path | None = None) -> torch.Tensor:
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        loaded = PeftModel.from_pretrained(loaded, adapter)
    with torch.no_grad():
        return loaded.eval()(TOKENS).logits


def test_a_tied_head_that_trains_is_untied_saved_and_loaded_equal(model: Path, tmp_path: Path) -> None:
    run(
        model,
        tmp_path / "run",
        finetuning_type="freeze",
        freeze_trainable_layers=1,
        freeze_extra_modules=["lm_head"],
        per_device_train_batch_size=4,
    )
    start, end = weights(model), weights(tmp_path / "run")
    assert "lm_head.weight" not in start
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed
    assert all(".layers.2." in name for name in changed), changed
    assert not torch.equal(end["lm_head.weight"], end["model.embed_tokens.weight"])
    assert torch.equal(end["model.embed_tokens.weight"], start["model.embed_tokens.weight"])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["tie_word_embeddings"] is False
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    assert torch.equal(loaded.lm_head.weight, end["lm_head.weight"])
    assert any("final norm is frozen" in line for line in run_json(tmp_path / "run")["notices"])


def test_an_adapter_goes_on_against_itself_as_it_started(model: Path, adapter: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", **LORA, adapter_name_or_path=str(adapter))
    first, second = metrics(tmp_path / "run")
    assert first["rewards/margins"] == 0.0
    assert first["ref_logps/chosen"] == first["logps/chosen"]
    assert second["rewards/margins"] != 0.0
    assert run_json(tmp_path / "run")["reference"]["kind"] == "copy"
    # Not the base: the adapter has moved the answers away from it.
    assert first["ref_logps/chosen"] != pytest.approx(metrics(adapter)[0]["ref_logps/chosen"], abs=0.1)
    assert weights(tmp_path / "run").keys() == weights(adapter).keys()


def test_a_merged_adapter_is_the_start_of_full_training(model: Path, adapter: Path, tmp_path: Path) -> None:
    shape = {"per_device_train_batch_size": 4, "learning_rate": 1e-9}
    run(model, tmp_path / "run", **shape, adapter_name_or_path=str(adapter))
    record = run_json(tmp_path / "run")
    assert any("merged into the model before training" in line for line in record["notices"])
    assert metrics(tmp_path / "run")[0]["rewards/margins"] == 0.0
    assert not (tmp_path / "run" / "adapter_config.json").exists()
    expected = logits(model, adapter)
    torch.testing.assert_close(logits(tmp_path / "run"), expected, atol=1e-3, rtol=1e-3)
    assert float((logits(model) - expected).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_policys_adapter_is_where_a_reward_model_starts(
    model: Path, adapter: Path, tmp_path: Path, kind: str
) -> None:
    changed = {**(LORA if kind == "lora" else {"per_device_train_batch_size": 4}), "num_train_epochs": 4}
    run(model, tmp_path / "rm", stage="rm", adapter_name_or_path=str(adapter), **{**changed, "learning_rate": 1e-2})
    first, last = metrics(tmp_path / "rm")[0], metrics(tmp_path / "rm")[-1]
    assert first["loss"] == pytest.approx(math.log(2)), "its head starts at 0"
    assert last["loss"] < first["loss"]
    prompts = [(Message("user", "what is it"),)] * 2
    assert len(set(RewardModel(tmp_path / "rm")(prompts, ["yes it is", "no"]))) == 2
    if kind == "lora":  # where nothing has moved, what is below the head is the policy's
        still = tmp_path / "still"
        run(model, still, stage="rm", adapter_name_or_path=str(adapter), **{**changed, "learning_rate": 1e-12})
        before, after = weights(adapter), weights(still)
        assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)


@pytest.mark.parametrize(
    ("missing", "words"),
    [("adapter_config.json", "not an adapter folder"), ("adapter_model.safetensors", "the adapter has no weights")],
)
def test_an_adapter_that_is_not_whole_is_refused(adapter: Path, tmp_path: Path, missing: str, words: str) -> None:
    shutil.copytree(adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("checkpoint-*", missing))
    with pytest.raises(ModelError, match=words):
        trainable.continue_adapter(tiny_model("llama"), str(tmp_path / "adapter"))


@pytest.mark.parametrize(("layers", "which"), [(2, {"1", "2"}), (-2, {"0", "1"}), (-3, {"0", "1", "2"})])
def test_the_last_or_the_first_layers_train(layers: int, which: set[str]) -> None:
    tuned = trainable.train_last_layers(tiny_model("llama"), layers)
    names = [name for name, parameter in tuned.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[2] for name in names if name.startswith("model.layers.")} == which
    assert all(name.startswith("model.layers.") for name in names)


def test_what_is_not_there_cannot_train() -> None:
    for layers in (4, -4):
        with pytest.raises(ConfigError, match="3 decoder layers"):
            trainable.train_last_layers(tiny_model("llama"), layers)
    with pytest.raises(ConfigError, match="no module named head"):
        trainable.train_last_layers(tiny_model("llama"), 1, ["head"])


@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi"])
def test_lora_leaves_the_head_alone(kind: str) -> None:
    tuned = trainable.add_lora(tiny_model(kind), rank=2, alpha=4)
    trains = [name for name, parameter in tuned.named_parameters() if parameter.requires_grad]
    assert trains
    assert all("lora_" in name and "lm_head" not in name for name in trains)


def test_every_key_of_lora_reaches_peft(model: Path, tmp_path: Path) -> None:
    """What is saved says how the adapter computes, so this is what trained."""
    keys = {"lora_rank": 4, "lora_alpha": 12, "lora_dropout": 0.25, "use_rslora": True, "lora_target": "q_proj, v_proj"}
    run(model, tmp_path / "all", finetuning_type="lora", max_steps=1, **keys)
    saved = json.loads((tmp_path / "all" / "adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"], saved["lora_dropout"]) == (4, 12, 0.25)
    assert (saved["use_rslora"], saved["use_dora"]) == (True, False)
    assert sorted(saved["target_modules"]) == ["q_proj", "v_proj"]
    run(model, tmp_path / "dora", finetuning_type="lora", max_steps=1, lora_rank=5, use_dora=True)
    saved = json.loads((tmp_path / "dora" / "adapter_config.json").read_text())
    assert (saved["use_dora"], saved["lora_alpha"], saved["lora_dropout"]) == (True, 10, 0.0)
    assert any("lora_magnitude_vector" in name for name in weights(tmp_path / "dora"))


def test_quantised_weights_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """Neither the model nor the dataset is there: nothing was looked for."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    given = {"finetuning_type": "lora", "quantization_bit": 4, "dataset": str(tmp_path / "none.jsonl")}
    with pytest.raises(ModelError, match=r"quantization_bit: 4 needs a CUDA GPU .* this run is on cpu; remove the key"):
        run(tmp_path / "none", tmp_path / "run", **given)


def test_quantised_weights_take_one_adapter(tmp_path: Path) -> None:
    given = {"finetuning_type": "lora", "quantization_bit": 4}
    config(tmp_path, tmp_path / "run", **given, adapter_name_or_path="a")
    for more in ({"adapter_name_or_path": "a,b"}, {"adapter_name_or_path": "a", "create_new_adapter": True}):
        with pytest.raises(ConfigError, match="a single adapter to continue; a would be merged into quantized weights"):
            config(tmp_path, tmp_path / "run", **given, **more)


def test_zero_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="freeze_trainable_layers must be at least 1"):
        config(tmp_path, tmp_path / "run", finetuning_type="freeze", freeze_trainable_layers=0)


def test_an_adapter_whole_modules_are_merged_and_saved_equal(model: Path, tmp_path: Path) -> None:
    """additional_target without new tokens: a norm and the tied embedding."""
    shape = {**LORA, "additional_target": "norm,embed_tokens", "num_train_epochs": 2}
    run(model, tmp_path / "run", **shape)
    assert metrics(tmp_path / "run")[0]["rewards/margins"] == 0.0
    assert run_json(tmp_path / "run")["reference"]["kind"] == "adapter"
    saved = {name for name in weights(tmp_path / "run") if "lora_" not in name}
    prefix = "base_model.model."
    assert saved == {f"{prefix}{name}.weight" for name in ("lm_head", "model.embed_tokens", "model.norm")}
    merged = trainable.merge_adapter(AutoModelForCausalLM.from_pretrained(model), str(tmp_path / "run"))
    with torch.no_grad():
        ours = merged.eval()(TOKENS).logits
    torch.testing.assert_close(ours, logits(model, tmp_path / "run"), atol=1e-4, rtol=1e-4)
    assert float((ours - logits(model)).abs().max()) > 1e-2
