"""JSON with line numbers in all error messages, and arrays read one row at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from palate.data.turns.cells import RowError
from palate.errors import DataError

_CHUNK = 1 << 18
_BLANK = " \t\r\n"


class JsonReader:
    """Decodes the JSON of one file. A row in which an object has the same key twice becomes a `RowError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._twice: str | None = None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def value(self, text: str, *, line: int = 1, ended: bool = True) -> Any:
        """The one value of `text`.

        Args:
            text: JSON with blanks around it.
            line: number of the text's first line, for error messages.
            ended: whether a line end follows, so that the value cannot be truncated.
        """
        text = text.rstrip(_BLANK)
        start = len(text) - len(text.lstrip(_BLANK))
        try:
            value, end = self.decode(text, start, line)
        except json.JSONDecodeError as error:
            truncated = not ended and _at_the_end(error, text)
            raise self.broken(error.msg, line + error.lineno - 1, truncated) from None
        if end < len(text):
            raise self.broken("something follows the value", line + text.count("\n", 0, end))
        return value

    def decode(self, text: str, start: int, line: int) -> tuple[Any, int]:
        """The value that starts at `start` and its end; an incomplete value raises `json.JSONDecodeError`."""
        self._twice = None
        try:
            value, end = self._decoder.raw_decode(text, start)
        except RecursionError:
            raise self.broken("nested too deep", line + text.count("\n", 0, start)) from None
        except json.JSONDecodeError:
            raise
        except ValueError as error:  # a number of thousands of digits
            raise self.broken(str(error).split(";")[0], line + text.count("\n", 0, start)) from None
        if self._twice is not None:
            return RowError(
                "key_twice", f"the key {self._twice!r} occurs twice in one object; remove or rename one"
            ), end
        return value, end

    def broken(self, what: str, line: int, truncated: bool = False) -> DataError:
        """The error about the file; `truncated` if it ends in the middle of a value."""
        hint = "; the file seems to be truncated here" if truncated else ""
        return DataError(f"{self._path}, line {line}: broken JSON: {what.removesuffix(' starting at')}{hint}")

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            self._twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return members


def array_rows(stream: TextIO, path: Path) -> Iterator[Any]:
    """The elements of a JSON array, of which only the current one is in memory."""
    window = _Window(stream, JsonReader(path))
    window.expect("[")
    first = True
    while window.next_character() != "]":
        if not first:
            window.expect(",")
        first = False
        yield window.element()
    window.expect("]")
    if window.next_character():
        raise window.broken("something follows the array")


class _Window:
    """The part of a text file from the current position on, and the number of the line it starts on."""

    def __init__(self, stream: TextIO, reader: JsonReader) -> None:
        self._stream = stream
        self._reader = reader
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def next_character(self) -> str:
        """The next character that is not blank, not yet consumed; "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK):
                return ""

    def expect(self, wanted: str) -> None:
        """Consumes `wanted`, which must be the next character."""
        seen = self.next_character()
        if seen != wanted:
            raise self.broken(f"expected {wanted!r}, found {repr(seen) if seen else 'nothing'}", truncated=not seen)
        self._at += 1

    def element(self) -> Any:
        """The value that starts at the next character."""
        self.next_character()
        chunk = _CHUNK
        while True:
            try:
                value, end = self._reader.decode(self._text, self._at, self._line)
            except json.JSONDecodeError as error:
                truncated = _at_the_end(error, self._text)
                if truncated and self._more(chunk):
                    chunk *= 2  # so that a long value is parsed a few times only
                    continue
                raise self._reader.broken(error.msg, self._line + error.lineno - 1, truncated) from None
            # A number at the end of the text may continue in the next chunk.
            if end < len(self._text) or not self._more(chunk):
                self._at = end
                return value

    def broken(self, what: str, truncated: bool = False) -> DataError:
        return self._reader.broken(what, self._line + self._text.count("\n", 0, self._at), truncated)

    def _more(self, size: int) -> bool:
        """Reads the next `size` characters and drops the consumed ones; False at the end of the file."""
        if self._ended:
            return False
        chunk = self._stream.read(size)
        if not chunk:
            self._ended = True
            return False
        self._line += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return True


# The end of a text that was truncated in the middle of a literal, a number or an escape.
_INCOMPLETE = re.compile(r"t(ru?)?|f(a(ls?)?)?|n(ul?)?|N(aN?)?|-?I(n(f(i(n(it?)?)?)?)?)?|-|\.|[eE][+-]?")


def _at_the_end(error: json.JSONDecodeError, text: str) -> bool:
    """Whether the error is that the text ends too early."""
    rest = text[error.pos : error.pos + 16].rstrip(_BLANK)
    incomplete = not rest or bool(_INCOMPLETE.fullmatch(rest)) or (error.msg.startswith("Invalid") and len(rest) < 8)
    return error.msg.startswith("Unterminated") or incomplete
