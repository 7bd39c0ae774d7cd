"""What a verb says: results on stdout, all else on stderr, and of several processes only the first speaks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from palate.artifacts import plain


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


def show(renderable: RenderableType) -> None:
    """A table for a person, on stdout."""
    if speaks():
        Console().print(renderable)
