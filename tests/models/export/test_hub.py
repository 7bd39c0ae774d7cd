"""Uploads to a fake of the hub's HTTP interface, by processes with HF_ENDPOINT and a token of their own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from fake_hub import TOKEN, FakeHub
from model_folders import as_run, fake_model


@pytest.fixture
def hub(httpserver: HTTPServer) -> FakeHub:
    return FakeHub(httpserver)


UPLOAD = """
import sys
from pathlib import Path
from palate.errors import EngineError
from palate.models.export.hub import upload
try:
    print(upload(Path(sys.argv[1]), "ann/model", private=sys.argv[2] == "private"))
except EngineError as error:
    sys.exit(str(error))
"""


def upload(hub: FakeHub, folder: Path, visibility: str = "private", token: str = TOKEN) -> Any:
    command = [sys.executable, "-c", UPLOAD, str(folder), visibility]
    env = hub.environment(folder.parent / "home", token)
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=120)


def test_the_models_files_are_uploaded_and_nothing_else(hub: FakeHub, tmp_path: Path) -> None:
    folder = as_run(fake_model(tmp_path / "run", 1.0), "base")
    fake_model(folder / "checkpoint-1", 2.0)
    (folder / "README.md").write_text(f"---\nbase_model: {tmp_path}\nlibrary_name: transformers\n---\n# m\n")
    done = upload(hub, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.url}/ann/model/commit/{'c' * 40}"
    names = ["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(hub.files) == names
    assert hub.private == {"ann/model": True}
    assert hub.files["README.md"] == b"---\nlibrary_name: transformers\n---\n# m\n", "no folder of this machine"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert hashlib.sha256(hub.files["model.safetensors"]).hexdigest() == digest


def test_a_public_repository_gets_nothing_unasked(hub: FakeHub, tmp_path: Path) -> None:
    folder = fake_model(tmp_path / "m")
    hub.private["ann/model"] = False
    done = upload(hub, folder)
    assert "the repository exists and is public" in done.stderr
    assert hub.files == {}
    assert upload(hub, folder, "public").returncode == 0
    assert "config.json" in hub.files


def test_a_wrong_token_is_one_line_without_the_token(hub: FakeHub, tmp_path: Path) -> None:
    wrong = "hf_" + "w" * 30
    done = upload(hub, fake_model(tmp_path / "m"), token=wrong)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "ann/model: not uploaded: " in line
    assert "hf auth login" in line
    assert wrong not in line
