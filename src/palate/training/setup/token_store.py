"""Tokenised rows on disk: a folder for each combination of data, template, tokenizer and settings.

The first run that needs a combination writes its folder; later runs, and the other processes of this one, read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import time
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from palate.artifacts import atomic_folder, json_hash, plain, remove_folder, write_errors
from palate.artifacts.locks import acquire
from palate.errors import ArtifactError
from palate.models.loading.builtin import cache_root
from palate.progress import console
from palate.text.template import Template
from palate.training.processes import is_main_process

T = TypeVar("T")

_UNUSED_DAYS = 30


def tokens_root() -> Path:
    """The folder of tokenised rows: `$PALATE_TOKENS`, else in the cache folder."""
    named = os.environ.get("PALATE_TOKENS")
    return Path(named) if named else cache_root() / "tokens"


def tokens_key(template: Template, settings: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that differ for another tokenizer, template, setting or version of the code that encodes.

    Args:
        settings: what else decides which rows are read and how: hashes of the files, `cutoff_len` …
    """
    tokenizer = template.tokenizer
    chat_template = str(tokenizer.chat_template)
    facts = {
        "code": _code(),
        "versions": [importlib.metadata.version(name) for name in ("transformers", "tokenizers")],
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "special": [str(tokenizer.bos_token), str(tokenizer.eos_token)],
        "template": [template.name, chat_template, template.variables, template.notices],
        # Such a template writes the date of today into every row.
        "date": date.today().isoformat() if "strftime_now" in chat_template else None,
        "settings": settings,
    }
    return json_hash(plain(facts))[:32]


@cache
def _code() -> str:
    """Hash of the modules that read and encode rows: in a checkout they change without a new version."""
    package = Path(__file__).parents[2]
    parts = ("data", "text", "training/setup", "training/methods")
    files = [package / "records.py", *(file for part in parts for file in (package / part).rglob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in sorted(files))).hexdigest()


def read_or_write(key: str, write: Callable[[Path], None], read: Callable[[Path], T]) -> tuple[T, bool]:
    """What `read` finds in the key's folder, and whether it was there already.

    One process writes it and others wait. A folder that `read` refuses with ArtifactError is written anew.

    Raises:
        ArtifactError: the folder cannot be written, as on a full disk.
    """
    folder = tokens_root() / key
    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock_file = folder.with_name(f".{key}.lock")
        try:
            lock = acquire(lock_file, "", wait=1)
        except ArtifactError:
            if is_main_process():
                console.print("waiting for another process that tokenises the same rows")
            lock = acquire(lock_file, "", wait=-1)
    try:
        try:
            found, ready = read(folder), True
        except ArtifactError:
            _write(folder, write)
            found, ready = read(folder), False
        with contextlib.suppress(OSError):  # a cache that this user may only read
            os.utime(folder)
    finally:
        lock.release()
    _remove_unused(folder.parent)
    return found, ready


def _write(folder: Path, write: Callable[[Path], None]) -> None:
    remove_folder(folder)
    try:
        with atomic_folder(folder) as temporary:
            write(temporary)
    except ArtifactError as error:
        raise ArtifactError(f"{error}; PALATE_TOKENS names another folder for tokenised rows") from error


def _remove_unused(root: Path) -> None:
    """Delete folders, also half-written ones of killed processes, that no run has opened for a month."""
    oldest = time.time() - _UNUSED_DAYS * 86400
    for folder in root.iterdir():
        # Another process may delete the same folder.
        with contextlib.suppress(OSError, ArtifactError):
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                remove_folder(folder)
