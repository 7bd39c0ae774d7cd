"""Several adapters, and a new one on top of merged ones: what trains, what the reference is, and what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from palate.evaluation.subject import Subject, read_run
from palate.models.precision import default_device, resolve
from palate.text.groups import EncodedGroup
from runs import metrics, run, run_json, weights
from tiny import random_groups, stock_score

LORA: dict[str, Any] = {
    "finetuning_type": "lora",
    "lora_rank": 4,
    "learning_rate": 2e-2,
    "per_device_train_batch_size": 4,
}
TOKENS = torch.arange(3, 40)[None]


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters that were trained on the model, one after the other."""
    folder = tmp_path_factory.mktemp("adapters")
    run(model, folder / "first", **LORA)
    run(model, folder / "second", **LORA, seed=7, lora_target=["q_proj", "v_proj"])
    return folder / "first", folder / "second"


def logits(model: Path, *adapters: Path) -> torch.Tensor:
    """With each adapter merged in turn, by transformers and PEFT alone."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for adapter in adapters:
        loaded = PeftModel.from_pretrained(loaded, adapter).merge_and_unload()
    with torch.no_grad():
        found: torch.Tensor = loaded.eval()(TOKENS).logits
    return found


def scores(folder: Path, groups: list[EncodedGroup]) -> list[float]:
    """Of the trained policy, as `palate eval` loads it."""
    device = default_device()
    subject = Subject(read_run(folder).policy, resolve("fp32", device), device)
    return [total for sums, _ in subject.score(groups) for total in sums]


def test_all_but_the_last_are_merged_and_the_last_goes_on(
    model: Path, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    named = f"{adapters[0]},{adapters[1]}"
    still = {**LORA, "learning_rate": 1e-8}
    run(model, tmp_path / "run", **still, adapter_name_or_path=named)
    record = run_json(tmp_path / "run")
    assert metrics(tmp_path / "run")[0]["rewards/margins"] == 0.0
    assert record["reference"]["kind"] == "copy"
    assert f"adapter {adapters[0]}: merged into the model before training" in record["notices"]
    assert f"adapter_name_or_path: {adapters[0]},{tmp_path / 'run'}" in " ".join(record["notices"])
    # The second's matrices are what trains; where they did not move they are the second's.
    before, after = weights(adapters[1]), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    expected = logits(model, *adapters)
    torch.testing.assert_close(logits(model, adapters[0], tmp_path / "run"), expected, atol=1e-4, rtol=1e-4)
    assert float((logits(model, adapters[1]) - expected).abs().max()) > 1e-2


@pytest.mark.parametrize("several", [False, True])
def test_a_new_adapter_starts_from_the_merged_model(
    model: Path, adapters: tuple[Path, Path], tmp_path: Path, several: bool
) -> None:
    named = [str(one) for one in adapters] if several else [str(adapters[0])]
    groups = random_groups(4)
    run(model, tmp_path / "run", **LORA, adapter_name_or_path=named, create_new_adapter=True)
    record, first = run_json(tmp_path / "run"), metrics(tmp_path / "run")[0]
    assert record["reference"]["kind"] == "adapter"
    assert (first["rewards/margins"], first["loss"]) == (0.0, pytest.approx(0.693147, abs=1e-6))
    # The reference is the merged model, not the base.
    run(model, tmp_path / "base", **LORA)
    base = metrics(tmp_path / "base")[0]
    assert first["ref_logps/chosen"] != pytest.approx(base["ref_logps/chosen"], abs=0.1)
    assert record["model"]["identity"] != run_json(tmp_path / "base")["model"]["identity"]
    # What was saved scores the same whoever loads it.
    merged = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for adapter in (*named, tmp_path / "run"):
        merged = PeftModel.from_pretrained(merged, adapter).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    (tmp_path / "merged" / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    expected = [stock_score(merged, group, answer) for group in groups for answer in range(2)]
    assert scores(tmp_path / "run", groups) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", ["full", "freeze"])
def test_without_lora_all_are_merged(model: Path, adapters: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    shape = {"finetuning_type": kind, "per_device_train_batch_size": 4, "learning_rate": 1e-8}
    run(model, tmp_path / "run", **shape, adapter_name_or_path=f"{adapters[0]}, {adapters[1]}")
    assert metrics(tmp_path / "run")[0]["rewards/margins"] == 0.0
    torch.testing.assert_close(logits(tmp_path / "run"), logits(model, *adapters), atol=1e-3, rtol=1e-3)
