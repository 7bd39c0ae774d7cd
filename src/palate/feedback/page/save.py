"""The file of `--save`: each decided pair as `{conversations, chosen, rejected}`; an undone vote removes it again."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from palate.artifacts import JsonlWriter, now, read_json, read_jsonl, sole_writer, write_bytes, write_errors, write_json
from palate.artifacts.files import read_bytes
from palate.data.formats.targets import UnsupportedRecordError, sharegpt_turn
from palate.errors import ArtifactError, DataError
from palate.records import Messages

PreferenceRow: TypeAlias = Mapping[str, Any]


def preference_row(prompt: Messages, chosen: str, rejected: str) -> PreferenceRow:
    """A pair as `{"conversations": [{"from": "human", "value": …}, …], "chosen": …, "rejected": …}`.

    Raises:
        DataError: a turn of the prompt has what the format cannot express (reasoning, text beside tool calls).
    """
    try:
        turns = [
            {"from": "system", "value": turn.content} if turn.role == "system" else sharegpt_turn(turn)
            for turn in prompt
        ]
    except UnsupportedRecordError as error:
        raise DataError(
            f"the pair cannot be saved as conversations: {error}; palate label export --to palate writes it"
        ) from error
    return {"conversations": turns, "chosen": chosen, "rejected": rejected}


class PreferenceFile:
    """A JSON Lines file of preference pairs that only this process writes to.

    Every row is synced to the disk before `change` returns. Rows that were in the file before stay.

    Attributes:
        path: the file.
        interrupted: when the last process that wrote to the file began, if it was killed; None if it ended in order.
        lock: hold it from the transaction that decides a pair until `change`, so that the file has the same order as
            the database.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file, or create it.

        Raises:
            ArtifactError: another process writes to it, it is not a JSON Lines file, or it cannot be written.
        """
        self.path = Path(path)
        self.lock = threading.Lock()
        self._session = self.path.with_name(f".{self.path.name}.session")
        self._waiting: list[tuple[PreferenceRow | None, PreferenceRow | None]] = []
        self._owner = ExitStack()
        self._owner.enter_context(sole_writer(self.path))
        try:
            existed = self.path.exists()
            if existed:
                self._check()
            self.interrupted = _read_time(self._session) if existed else None
            self._writer = JsonlWriter(self.path, sync=True)
            write_json(self._session, {"began": now()})
        except BaseException:
            self._owner.close()
            raise

    def change(self, before: PreferenceRow | None, after: PreferenceRow | None) -> None:
        """Replace the pair that the votes on two answers decided before by the one that they decide now; None is none.

        A pair that is new is appended. A pair that is no longer decided is removed: its newest equal row is left out of
        a new file that replaces the old one at once. A change that fails is made again with the next one.

        Raises:
            ArtifactError: the file cannot be written.
        """
        if before != after:
            self._waiting.append((before, after))
        while self._waiting:
            undone, new = self._waiting[0]
            if undone is not None:
                self._remove(undone)
                self._waiting[0] = (None, new)
            if new is not None:
                self._writer.write(new)
            del self._waiting[0]

    def add_missing(self, row: PreferenceRow) -> bool:
        """Append a row unless the file has it; whether it was appended."""
        if any(_value(line) == row for line in read_bytes(self.path).splitlines()):
            return False
        self.change(None, row)
        return True

    def close(self) -> None:
        """Let other processes write to the file; it has all pairs."""
        if not self._waiting:
            self._session.unlink(missing_ok=True)
        self._writer.close()
        self._owner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _check(self) -> None:
        """Refuse a file of another kind; end a complete last line that has no line break."""
        try:
            read_jsonl(self.path)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; --save appends to JSON Lines files only") from error
        last = read_bytes(self.path).rpartition(b"\n")[2]
        if isinstance(_value(last), dict):  # anything else was left by a killed process, and the writer removes it
            with write_errors(self.path), self.path.open("ab") as file:
                file.write(b"\n")

    def _remove(self, row: PreferenceRow) -> None:
        """Leave the last row that equals `row` out of the file; other lines keep their bytes."""
        lines = read_bytes(self.path).splitlines(keepends=True)  # of bytes: at \n, \r only
        for number in range(len(lines) - 1, -1, -1):
            if _value(lines[number]) == row:
                self._writer.close()
                write_bytes(self.path, b"".join(lines[:number] + lines[number + 1 :]))
                self._writer = JsonlWriter(self.path, sync=True)
                return


def _read_time(path: Path) -> datetime | None:
    """When the process began that left this note; None without one."""
    try:
        return datetime.fromisoformat(str(read_json(path)["began"]))
    except (ArtifactError, KeyError, TypeError, ValueError):  # there is none, or its writer was killed too early
        return None


def _value(line: bytes) -> Any:
    """The value of a line; None for a line that somebody damaged while the file was open."""
    try:
        return json.loads(line)
    except ValueError:
        return None
