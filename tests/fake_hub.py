"""A fake of the model hub's HTTP interface: repositories, uploads of small and large files, commits."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

TOKEN = "hf_" + "t" * 30  # what is refused below if it is another one


# A warning of huggingface_hub about the use of its HTTP client.
IGNORED = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


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

    def use(self, patch: pytest.MonkeyPatch, home: Path, token: str = TOKEN) -> None:
        """Let this process upload here, with a token."""
        from huggingface_hub import constants

        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        for name, value in (("HF_ENDPOINT", self.url), ("HF_TOKEN", token), ("HF_HOME", str(home))):
            patch.setenv(name, value)
