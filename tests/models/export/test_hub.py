"""Uploads to a fake of the hub's HTTP interface, by processes with HF_ENDPOINT and a token of their own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from model_folders import as_run, fake_model

TOKEN = "hf_" + "t" * 30  # what is refused below if it is another one


class FakeHub:
    """Repositories by name: whether they are private, and the files of their one commit."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("").rstrip("/")
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        server.expect_request(re.compile(".*")).respond_with_handler(self.reply)

    def reply(self, request: Request) -> Response:
        if request.path.startswith("/blob/"):
            self.blobs[request.path.removeprefix("/blob/")] = request.get_data()
            return Response()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Response("{}", 401)
        return Response(json.dumps(self.answer(request)), mimetype="application/json")

    def answer(self, request: Request) -> Any:
        path = request.path
        if path == "/api/repos/create":
            asked = request.get_json()
            repo = f"{asked['organization']}/{asked['name']}"
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.private.setdefault(repo, private)
            return {"url": f"{self.url}/{repo}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            listed = request.get_json()["files"]
            modes = {True: "lfs", False: "regular"}
            return {
                "files": [
                    {"path": f["path"], "uploadMode": modes[f["path"].endswith("tensors")], "shouldIgnore": False}
                    for f in listed
                ]
            }
        if path.endswith("/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.url}/blob/{o['oid']}", "header": {}}}}
                for o in request.get_json()["objects"]
            ]
            return {"transfer": "basic", "objects": objects}
        if "/commit/" in path:
            for line in map(json.loads, request.get_data().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.blobs[value["oid"]]
            return {"commitUrl": f"{self.url}/ann/model/commit/{'c' * 40}", "commitOid": "c" * 40}
        repo = path.removeprefix("/api/models/").partition("/revision")[0]
        return {"id": repo, "private": self.private[repo], "siblings": [], "tags": []}


@pytest.fixture
def hub(httpserver: HTTPServer) -> FakeHub:
    return FakeHub(httpserver)


UPLOAD = """
import sys
from pathlib import Path
from palate.errors import EngineError
from palate.models.export import upload
try:
    print(upload(Path(sys.argv[1]), "ann/model", private=sys.argv[2] == "private"))
except EngineError as error:
    sys.exit(str(error))
"""


def environment(hub: FakeHub, home: Path, token: str = TOKEN) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
    own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return {**kept, **own, "HF_HUB_DISABLE_TELEMETRY": "1"}


def upload(hub: FakeHub, folder: Path, visibility: str = "private", token: str = TOKEN) -> Any:
    command = [sys.executable, "-c", UPLOAD, str(folder), visibility]
    env = environment(hub, folder.parent / "home", token)
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
