"""Uploads to a model hub. A new repository is private, and nothing is uploaded to a public one unasked."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from palate.artifacts import MODEL_FILES
from palate.errors import EngineError
from palate.models.upstream import first_line, quiet


def prepare_repository(repo: str, *, private: bool = True) -> None:
    """Create the repository if it does not exist, so that a missing token or permission is found before long work.

    Raises:
        EngineError: the hub refuses it or cannot be reached, or the repository is public and `private` is wanted.
    """
    with _hub_errors(repo):
        api = _api()
        api.create_repo(repo, private=private, exist_ok=True)
        if private and api.repo_info(repo).private is False:  # `private` has no effect on one that exists
            raise EngineError(f"{repo}: the repository exists and is public; name another one, or allow it (public)")


def upload(folder: Path, repo: str, *, private: bool = True) -> str:
    """Upload the model's files in one commit, and return its address; run.json and reports stay here.

    Raises:
        EngineError: as `prepare_repository`; nothing is committed then.
    """
    prepare_repository(repo, private=private)
    files = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()})
    added = [CommitOperationAdd(path.name, _card(path) if path.name == "README.md" else str(path)) for path in files]
    with _hub_errors(repo), quiet():
        done = _api().create_commit(repo, added, commit_message="Model trained with palate")
    return str(done.commit_url)


def _card(path: Path) -> bytes:
    """The model card without a base that is a folder of this machine, which the hub would refuse."""
    text = path.read_text(encoding="utf-8")
    base = re.search(r"^base_model: (.*)\n", text, re.MULTILINE)
    return (text.replace(base[0], "", 1) if base and Path(base[1].strip("'\"")).is_dir() else text).encode()


def _api() -> HfApi:
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)


@contextlib.contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    # Its HTTP client is another library in each of its versions, and a failed upload is a RuntimeError.
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        why: dict[int | None, str] = {
            401: "log in with `hf auth login`, or set HF_TOKEN",
            403: "the token may not write there",
        }
        remedy = why.get(status, "check the name, the connection, HF_TOKEN and HF_HUB_OFFLINE")
        raise EngineError(f"{repo}: not uploaded: {first_line(error)}; {remedy}", status) from error
