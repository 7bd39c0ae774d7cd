"""Probes are the log-probabilities that plain transformers and PEFT give, with and without the adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from palate.cli.main import main
from palate.registry import add, find
from palate.store import open_store
from tiny import save_tiny


def test_probes_of_a_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_tiny(tmp_path / "base")
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    adapted.save_pretrained(tmp_path / "adapter")
    database = str(tmp_path / "palate.db")
    store = open_store(database)
    add(store, tmp_path / "adapter", models_dir=tmp_path / "models", who="t")
    add(store, base, models_dir=tmp_path / "models", who="t")
    assert main(["model", "probe", "v1.0", "--precision", "fp32", "--store", database, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    version = find(store, "v1.0")
    store.close()
    probes = version.lineage["probes"]
    assert probes == said["probes"]
    assert said["tokens"] == sum(len(probe["ids"]) - 1 for probe in probes)

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    model = PeftModel.from_pretrained(plain, version.folder).eval()
    moved = 0.0
    for probe in probes:
        ids = torch.tensor([probe["ids"]])
        with torch.no_grad(), model.disable_adapter():
            before = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
        with torch.no_grad():
            after = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
        torch.testing.assert_close(torch.tensor(probe["logps"]), after, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.tensor(probe["base"]), before, atol=1e-4, rtol=1e-4)
        moved += (after - before).abs().sum().item()
    assert said["difference_from_base"] == pytest.approx(moved / said["tokens"], rel=1e-2)
    assert moved > 0.1

    assert main(["model", "probe", "v1.1", "--store", database]) == 2
    assert "v1.1 is a whole model" in " ".join(capsys.readouterr().err.split())
