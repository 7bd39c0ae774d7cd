"""What a verb says: results on stdout, all else on stderr, and of several processes only the first speaks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from palate.artifacts import plain
from palate.cli.columns import text_width, two_columns

if TYPE_CHECKING:
    from palate.evaluation.table import SideBySide

_ANSWER = 30
"""Columns that an answer needs beside others to be read."""


def process_rank() -> int:
    """Which of the processes that torchrun or accelerate started this is; 0 for the only one."""
    rank = os.environ.get("RANK", "0")
    return int(rank) if rank.isdigit() else 0


def speaks() -> bool:
    """Whether this process prints."""
    return process_rank() == 0


def say(text: str) -> None:
    """One line of progress or notice, on stderr."""
    if speaks():
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text))


def note(text: str) -> None:
    """One line that a person should know before trusting the result, on stderr."""
    if speaks():
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(Text.assemble(("palate: note: ", "yellow"), text))


def note_unread(columns: Sequence[str]) -> None:
    """Say which answers and scores of a dataset are not read where only its prompts are."""
    if columns:
        note(f"only the prompts are read; left unread: {', '.join(columns)}")


def complain(text: str) -> None:
    """One line that says what failed, on stderr; from a process that is not the first, with its rank."""
    rank = process_rank()
    where = f" (process {rank})" if rank else ""
    line = " ".join(text.split())
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble((f"palate: error{where}: ", "bold red"), line))


def result(text: str) -> None:
    """The result for a person, on stdout."""
    if speaks():
        sys.stdout.write(text if text.endswith("\n") else text + "\n")


def result_json(value: Mapping[str, Any]) -> None:
    """The result for a machine: one JSON object on stdout, strict: what is not finite is null."""
    result(json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False))


def show_answers(rows: Sequence[SideBySide], *, stage: str = "dpo") -> None:
    """Prompts and answers for a person, on stdout: in columns where the terminal has room for them, else in blocks."""
    from palate.evaluation.table import blocks, columns, rich_table

    width = text_width()
    if width is not None and width >= _ANSWER * (len(columns(rows, stage=stage)) - 1):
        if speaks():
            Console().print(rich_table(rows, stage=stage))
        return
    parts = []
    for number, lines in enumerate(blocks(rows, stage=stage)):
        shown = [(name, " ↵ ".join(text.splitlines())) for name, text in lines]
        parts.append("\n".join([f"index {number}", *two_columns(shown, width=width)]))
    result("\n\n".join(parts))
