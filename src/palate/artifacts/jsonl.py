"""JSON Lines files that stay readable if the writing process is killed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from palate.artifacts.files import PathLike, plain, read_errors, write_errors
from palate.errors import ArtifactError

_LOG = logging.getLogger(__name__)


class JsonlWriter:
    """Appends JSON objects, one per line; nothing is buffered in the process after `write` returns.

    An incomplete last line, left by a killed process, is removed on opening.
    """

    def __init__(self, path: PathLike, *, append: bool = True, sync: bool = False) -> None:
        self.path = Path(path)
        self._sync = sync
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if append and self.path.exists():
                _remove_incomplete_line(self.path)
            self._file: IO[bytes] = self.path.open("ab" if append else "wb", buffering=0)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append `row`, whole or not at all; with `sync=True` it survives a power failure after this returns."""
        line = json.dumps(plain(row), allow_nan=False).encode() + b"\n"
        with write_errors(self.path):
            end = self._file.seek(0, os.SEEK_END)
            try:
                while line:  # an unbuffered write may write only a part, for example if the disk fills up
                    line = line[self._file.write(line) :]
                if self._sync:
                    os.fsync(self._file.fileno())
            except BaseException:
                self._file.truncate(end)  # the next row must not continue this one
                raise

    def close(self) -> None:
        """Sync and close the file; does nothing if it is already closed."""
        if not self._file.closed:
            with write_errors(self.path), self._file:
                os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_jsonl(path: PathLike) -> list[dict[str, Any]]:
    """The rows of a JSONL file. A last line without its end is left out; another damaged line raises ArtifactError."""
    return list(iter_jsonl(path))


def iter_jsonl(path: PathLike) -> Iterator[dict[str, Any]]:
    """The same rows, one at a time, for files that are too large to be held."""
    with read_errors(path), Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):  # the last line, of a writer that was killed
                    _LOG.warning("%s:%d: the line is incomplete and left out", path, number)
                    return
                raise ArtifactError(
                    f"{path}:{number}: not valid JSON; the file is damaged there, or has not one object on each line"
                ) from error
            if not isinstance(row, dict):
                raise ArtifactError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
            yield row


def _remove_incomplete_line(path: Path) -> None:
    with path.open("rb+") as file:
        end = position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            file.truncate(position)
