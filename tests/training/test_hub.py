"""`push_to_hub`: the model is uploaded after the run, and a token that may not is found before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from fake_hub import IGNORED, FakeHub
from palate.errors import EngineError
from runs import run, run_json
from tiny import save_tiny


@IGNORED
def test_a_run_uploads_its_adapter_and_a_wrong_token_trains_nothing(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub(httpserver)
    model = save_tiny(tmp_path / "base")
    keys: dict[str, Any] = {"finetuning_type": "lora", "max_steps": 1}
    keys |= {"push_to_hub": True, "hub_model_id": "ann/model"}
    hub.use(monkeypatch, tmp_path / "home", token="hf_" + "w" * 30)
    with pytest.raises(EngineError, match="ann/model: not uploaded"):
        run(model, tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()
    hub.use(monkeypatch, tmp_path / "home")
    run(model, tmp_path / "run", **keys)
    said = "".join(capfd.readouterr().err.split())
    assert f"uploadedto{hub.url}/ann/model/commit/" in said
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= set(hub.files)
    assert not {"run.json", "data.json", "metrics.jsonl"} & set(hub.files)
    assert run_json(tmp_path / "run")["status"] == "completed"
