"""Prompts to answer: the conversation so far of every row of a dataset, whatever else the row has."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from palate.data.messages import (
    RowError,
    is_transcript,
    is_turns,
    read_transcript,
    read_turns,
    text,
    user,
    with_system,
)
from palate.data.rows import read_tools
from palate.data.sources import open_source
from palate.errors import DataError
from palate.records import Dropped, Message, Messages, Record

PROMPT_COLUMNS = ("prompt", "conversations", "messages", "instruction", "question")


def load_prompts(
    dataset: str, *, dataset_dir: str | Path | None = None, max_samples: int | None = None
) -> tuple[list[Record], list[Dropped]]:
    """The conversation up to the assistant's turn of each row, and the rows that have none.

    A row's prompt is its `prompt` (text, HH transcript or turns), `conversations` or `messages` up to the last
    assistant turn, or `instruction` (with `input`) or `question`, with the row's `system` text in front and its
    `tools`. The record's `extra` has the other columns.

    Raises:
        DataError: the dataset cannot be read, or no row has a prompt.
    """
    prompts: list[Record] = []
    dropped: list[Dropped] = []
    for row_id, row in islice(open_source(dataset, dataset_dir=dataset_dir).rows(), max_samples):
        try:
            prompts.append(_record(row_id, row))
        except RowError as bad:
            dropped.append(Dropped(row_id, bad.reason, bad.detail))
    if not prompts:
        seen = f" ({dropped[0].detail})" if dropped else ""
        raise DataError(f"{dataset}: no row has a prompt; known columns are {', '.join(PROMPT_COLUMNS)}{seen}")
    return prompts, dropped


def _record(row_id: str, row: Any) -> Record:
    if isinstance(row, RowError):
        raise row
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, Mapping):
        raise RowError("not_an_object", f"the row is a {type(row).__name__}")
    name = next((column for column in PROMPT_COLUMNS if row.get(column)), None)
    if name is None:
        raise RowError("missing_prompt", f"the columns are {', '.join(map(str, row)) or 'none'}")
    messages = with_system(row.get("system"), _conversation(row, name))
    if not messages or messages[-1].role not in ("user", "tool"):
        raise RowError("no_question", f"{name} does not end before an assistant's turn")
    others = {column: value for column, value in row.items() if column not in (name, "system")}
    return Record(id=row_id, prompt=messages, tools=read_tools(row.get("tools")), extra=others)


def _conversation(row: Mapping[str, Any], name: str) -> Messages:
    if is_turns(row[name]):
        return _before_answer(read_turns(row[name], name))
    asked, extra = text(row[name], name), row.get("input")
    if is_transcript(asked):
        return _before_answer(read_transcript(asked, name))
    return user(f"{asked}\n{text(extra, 'input')}" if name == "instruction" and extra else asked)


def _before_answer(messages: Messages) -> Messages:
    """Without the assistant turns at the end."""
    kept: list[Message] = list(messages)
    while kept and kept[-1].role == "assistant":
        kept.pop()
    return tuple(kept)
