"""Uploads to a fake of the hub's HTTP interface."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from fake_hub import IGNORED, FakeHub
from model_folders import as_run, fake_model
from palate.errors import EngineError
from palate.models.export.hub import upload

pytestmark = IGNORED


@pytest.fixture
def hub(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    fake = FakeHub(httpserver)
    fake.use(monkeypatch, tmp_path / "home")
    return fake


def test_the_models_files_are_uploaded_and_nothing_else(hub: FakeHub, tmp_path: Path) -> None:
    folder = as_run(fake_model(tmp_path / "run", 1.0), "base")
    fake_model(folder / "checkpoint-1", 2.0)
    (folder / "README.md").write_text(f"---\nbase_model: {tmp_path}\nlibrary_name: transformers\n---\n# m\n")
    assert upload(folder, "ann/model") == f"{hub.url}/ann/model/commit/{'c' * 40}"
    names = ["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(hub.files) == names
    assert hub.private == {"ann/model": True}
    assert hub.files["README.md"] == b"---\nlibrary_name: transformers\n---\n# m\n", "no folder of this machine"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert hashlib.sha256(hub.files["model.safetensors"]).hexdigest() == digest


def test_a_public_repository_gets_nothing_unasked(hub: FakeHub, tmp_path: Path) -> None:
    folder = fake_model(tmp_path / "m")
    hub.private["ann/model"] = False
    with pytest.raises(EngineError, match="the repository exists and is public"):
        upload(folder, "ann/model")
    assert hub.files == {}
    upload(folder, "ann/model", private=False)
    assert "config.json" in hub.files


def test_a_wrong_token_is_one_line_without_the_token(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "hf_" + "w" * 30
    monkeypatch.setenv("HF_TOKEN", wrong)
    with pytest.raises(EngineError, match=r"ann/model: not uploaded: .*hf auth login") as found:
        upload(fake_model(tmp_path / "m"), "ann/model")
    assert found.value.status == 401
    assert wrong not in str(found.value)
    assert "\n" not in str(found.value)
