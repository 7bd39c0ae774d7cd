"""`push_to_hub`: the model is uploaded after the run, and a token that may not is found before it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from pytest_httpserver import HTTPServer

from fake_hub import FakeHub
from runs import command, config_file, run_json, values
from tiny import save_tiny


def test_a_run_uploads_its_adapter_and_a_wrong_token_trains_nothing(httpserver: HTTPServer, tmp_path: Path) -> None:
    hub = FakeHub(httpserver)
    keys = {"finetuning_type": "lora", "max_steps": 1, "push_to_hub": True, "hub_model_id": "ann/model"}
    config = config_file(tmp_path / "run.yaml", values(save_tiny(tmp_path / "base"), tmp_path / "run", **keys))

    def train(**token: str) -> subprocess.CompletedProcess[str]:
        how: dict[str, Any] = command("train", config)
        how["env"] |= hub.environment(tmp_path / "home", **token)
        how["env"].pop("HF_HUB_OFFLINE")
        return subprocess.run(**how, timeout=300, check=False)

    refused = train(token="hf_" + "w" * 30)
    assert refused.returncode == 1
    assert "ann/model: not uploaded" in refused.stderr
    assert not (tmp_path / "run").exists()
    done = train()
    assert done.returncode == 0, done.stderr
    assert f"uploaded to {hub.url}/ann/model/commit/" in done.stderr
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= set(hub.files)
    assert not {"run.json", "data.json", "metrics.jsonl"} & set(hub.files)
    assert run_json(tmp_path / "run")["status"] == "completed"
