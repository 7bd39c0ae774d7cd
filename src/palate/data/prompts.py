"""Prompts to answer: the conversation so far of every row of a dataset, whatever else the row has."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
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
from palate.data.sources import open_source
from palate.errors import DataError
from palate.records import Dropped, Message, Messages

_FIRST = 100
PROMPT_COLUMNS = ("prompt", "conversations", "messages", "instruction", "question")


def load_prompts(
    dataset: str, *, dataset_dir: str | Path | None = None, max_samples: int | None = None
) -> tuple[list[tuple[str, Messages]], list[Dropped]]:
    """(row id, conversation up to the assistant's turn) of each row, and the rows that have none.

    A row's prompt is its `prompt` (text, HH transcript or turns), `conversations` or `messages` up to the last
    assistant turn, or `instruction` (with `input`) or `question`; a `system` column goes in front.

    Raises:
        DataError: the dataset cannot be read, or no row has a prompt.
    """
    prompts: list[tuple[str, Messages]] = []
    dropped: list[Dropped] = []
    for row_id, row in islice(open_source(dataset, dataset_dir=dataset_dir).rows(), max_samples):
        try:
            prompts.append((row_id, _prompt(row)))
        except RowError as bad:
            dropped.append(Dropped(row_id, bad.reason, bad.detail))
    if not prompts:
        seen = f" ({dropped[0].detail})" if dropped else ""
        raise DataError(f"{dataset}: no row has a prompt; known columns are {', '.join(PROMPT_COLUMNS)}{seen}")
    return prompts, dropped


def _prompt(row: Any) -> Messages:
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
    return messages


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


def unread_columns(dataset: str, *, dataset_dir: str | Path | None = None) -> list[str]:
    """What a dataset's first rows have beside their prompts, unread by `load_prompts`: answers, scores, labels.

    `messages (answers)` stands for assistant turns at the end of a conversation.
    """
    found: dict[str, None] = {}
    for _, row in islice(open_source(dataset, dataset_dir=dataset_dir).rows(), _FIRST):
        name = (
            next((column for column in PROMPT_COLUMNS if row.get(column)), None) if isinstance(row, Mapping) else None
        )
        if name is None:
            continue
        beside = {"system", "tools", "id", *(("input",) if name == "instruction" else ())}
        found |= dict.fromkeys(str(column) for column in row if column != name and column not in beside)
        with suppress(RowError):
            if is_turns(row[name]) and read_turns(row[name], name)[-1].role == "assistant":
                found[f"{name} (answers)"] = None
    return list(found)
