"""Single files: atomic and durable writes, strict JSON, and disk errors as one line."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

from palate.errors import ArtifactError, MissingInputError

PathLike: TypeAlias = str | os.PathLike[str]

_DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}
# Messages of libraries that do not raise OSError: safetensors (Rust), torch.save's zip writer.
_DISK_FULL_WORDS = re.compile(
    r"no space left|file too large|quota exceeded|disk (is )?full|StorageFull|unexpected pos \d+ vs \d+"
    r"|file write failed|os error (27|28|122)\b",
    re.IGNORECASE,
)


@contextlib.contextmanager
def write_errors(path: PathLike) -> Iterator[None]:
    """A context that turns write errors, from palate or a library, into one `ArtifactError` line about `path`.

    Recognised are a full disk, quota or file size limit (also inside `SafetensorError` and torch's `RuntimeError`),
    missing permission, a read-only disk, and a file where a folder is needed. Other exceptions pass unchanged.
    """
    try:
        yield
    except ArtifactError:
        raise
    except OSError as error:
        raise ArtifactError(_explain(error, Path(path))) from error
    except Exception as error:  # a library that writes the file may raise its own class when the disk is full
        if _DISK_FULL_WORDS.search(str(error)):
            raise ArtifactError(_disk_full(Path(path))) from error
        raise


def _explain(error: OSError, path: Path) -> str:
    """One line about a write error, with the fix."""
    if error.errno in _DISK_FULL or (error.errno is None and _DISK_FULL_WORDS.search(str(error))):
        return _disk_full(path)
    reason = error.strerror or str(error)
    if error.errno in _REFUSED:
        return f"{path}: cannot be written ({reason}); grant write permission or choose another folder"
    if error.errno in _IN_THE_WAY:
        return f"{path}: cannot be written, a file or folder of another kind is in the way ({reason}); move it away"
    return f"{path}: cannot be written ({reason}); check the path and the disk"


def _disk_full(path: Path) -> str:
    return (
        f"{path}: the disk is full, or the file is larger than the disk, a quota or `ulimit -f` allows; "
        "free space or choose another folder and run again (complete files are unchanged)"
    )


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[Path]:
    """A context with a temporary path in the same folder; if the block succeeds, the file there replaces `path`.

    Missing parent folders are created. The file is synced before the rename and its folder after it. If the block
    fails, nothing changes.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_bytes(path: PathLike, content: bytes) -> Path:
    """Write a file with `atomic_file`; returns the path."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def check_writable(path: PathLike) -> None:
    """Check before long work that a file can be written; missing parent folders are created.

    Raises:
        ArtifactError: the folder cannot be created or written to, or a folder has the file's name.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary = temporary_path(path, "check")
        temporary.touch(exist_ok=False)
        temporary.unlink()


def write_text(path: PathLike, text: str) -> Path:
    """Write text as UTF-8 with `write_bytes`; lone surrogates, which come from broken input, become U+FFFD."""
    return write_bytes(path, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode())


def write_json(path: PathLike, value: Any, *, indent: int | None = 2) -> Path:
    """Write `plain(value)` as strict JSON with `write_text` (NaN and infinities become null)."""
    return write_text(path, json.dumps(plain(value), ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


@contextlib.contextmanager
def read_errors(path: PathLike) -> Iterator[None]:
    """A context that turns a missing or unreadable file into one `ArtifactError` line about `path`."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error


def read_bytes(path: PathLike) -> bytes:
    """The content of a file; raises ArtifactError if it is missing or unreadable."""
    with read_errors(path):
        return Path(path).read_bytes()


def read_json(path: PathLike) -> Any:
    """The value of a JSON file; raises ArtifactError if it is missing or damaged."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except ValueError as error:
        at = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ArtifactError(f"{path}: not valid JSON{at}; the file is damaged: restore it or delete it") from error


def plain(value: Any) -> Any:
    """Convert a value for strict JSON: non-finite floats become None, times ISO 8601, paths, arrays and sets plain."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "tolist"):  # NumPy and torch scalars and arrays
        return plain(value.tolist())
    return str(value)


def json_hash(value: Any) -> str:
    """SHA-256 of a JSON value in hex, the same for any order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_name(name: str) -> str:
    """A name, as of a model, as part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"


def temporary_path(path: Path, kind: str = "tmp") -> Path:
    """An unused hidden path in the same folder, so that it can be renamed on the same disk."""
    return path.with_name(f".{path.name}.{kind}-{secrets.token_hex(6)}")


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    if sys.platform == "win32":  # a folder cannot be synced there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
