"""Terminal output: results on stdout, everything else on stderr. Of several processes only the first one prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from palate.artifacts import plain
from palate.cli.columns import text_width, two_columns

if TYPE_CHECKING:
    from palate.evaluation.answers.table import SideBySide

AS_JSON = ContextVar("AS_JSON", default=False)
"""The option `--json` of the command that runs."""
_READABLE = 30
"""Columns of the terminal from which an answer can be read in a table."""


def process_rank() -> int:
    """The number of this process among those that torchrun or accelerate started; 0 for a single one."""
    rank = os.environ.get("RANK", "0")
    return int(rank) if rank.isdigit() else 0


def is_main_process() -> bool:
    """Whether this process prints and writes reports."""
    return process_rank() == 0


def print_progress(text: str) -> None:
    """A line of progress on stderr; none with `--quiet`."""
    from palate.progress import console

    if is_main_process() and not console.quiet:
        _to_stderr(text)


def print_note(text: str) -> None:
    """A line on stderr that a user should read before trusting the result."""
    if is_main_process():
        _to_stderr(("palate: note: ", "yellow"), text)


def print_error(text: str) -> None:
    """A failure as one line on stderr; other processes than the first add their rank."""
    rank = process_rank()
    where = f" (process {rank})" if rank else ""
    _to_stderr((f"palate: error{where}: ", "bold red"), " ".join(text.split()))


def print_result(text: str) -> None:
    """The result for a person, on stdout."""
    if is_main_process():
        sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_json(value: Any) -> None:
    """The result for a program: a mapping or dataclass as one JSON object on stdout; NaN and infinity become null."""
    print_result(json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False))


def wants_json() -> bool:
    """Whether the command that runs prints for a program (`--json`)."""
    return AS_JSON.get()


def print_done(text: str, facts: Any) -> None:
    """What a command did: a line for a person, or its facts as JSON for a program."""
    if wants_json():
        print_json(facts)
    else:
        print_result(text)


def print_answers(rows: Sequence[SideBySide], *, stage: str = "dpo") -> None:
    """Prompts and answers for a person, on stdout: a table if the terminal is wide enough, else a block each."""
    from palate.evaluation.answers.table import blocks, columns, rich_table

    width = text_width()
    if width is not None and width >= _READABLE * (len(columns(rows, stage=stage)) - 1):
        if is_main_process():
            Console().print(rich_table(rows, stage=stage))
        return
    parts = []
    for number, lines in enumerate(blocks(rows, stage=stage)):
        shown = [(name, " ↵ ".join(text.splitlines())) for name, text in lines]
        parts.append("\n".join([f"index {number}", two_columns(shown)]))
    print_result("\n\n".join(parts))


def _to_stderr(*parts: str | tuple[str, str]) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text.assemble(*parts))
