"""The prompt of a row: a text, one turn, turns, an HH transcript, or Alpaca's instruction with input and history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from palate.data.formats.rows import PROMPT_NAMES, Reading, Row, cell, checked_prompt, conversation, present
from palate.data.turns.cells import RowError, excerpt, literal, parsed_list, text
from palate.data.turns.messages import read_transcript_prompt, read_turns, with_system
from palate.records import Messages

WIDE_PROMPT_NAMES = (*PROMPT_NAMES, "input", "context", "history", "post", "info")
"""Names of the prompt's column in rows with labelled or ranked answers."""
_BODY_NAMES = ("full_text", "text", "post", "article", "body")


def prompt_of(row: Row, value: Any, reading: Reading) -> Messages:
    """The prompt column as a conversation, with the row's system text in front."""
    if isinstance(value, str) and value.startswith("["):
        found = literal(value)
        if isinstance(found, list) and found and all(isinstance(item, str) for item in found):
            raise RowError("list_as_text", f"prompt is a list of {len(found)} texts written as text: {excerpt(value)}")
    return checked_prompt(with_system(row.get("system"), conversation(value, "prompt", "user", reading)))


def alpaca_prompt(row: Row) -> Messages:
    """Instruction and input on separate lines, after the earlier exchanges in `history`."""
    parts = [text(cell(row, "instruction"), "instruction")]
    if row.get("input") is not None:
        parts.append(text(row["input"], "input"))
    turns: list[dict[str, Any]] = []
    for exchange in parsed_list(row.get("history") or [], "history"):
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise RowError("bad_turn", f"history must hold [question, answer] pairs: {excerpt(exchange)}")
        turns += [{"role": "user", "content": exchange[0]}, {"role": "assistant", "content": exchange[1]}]
    turns.append({"role": "user", "content": "\n".join(part for part in parts if part)})
    return checked_prompt(with_system(row.get("system"), read_turns(turns, "history")))


def wide_prompt(row: Row, reading: Reading) -> Messages:
    """The prompt of a row with labelled or ranked answers; its column may also be an object with a text."""
    name = present(row, WIDE_PROMPT_NAMES)
    value = cell(row, *WIDE_PROMPT_NAMES)
    if name == "instruction" and (row.get("input") or row.get("history")):
        return alpaca_prompt(row)
    if isinstance(value, Mapping) and (body := present(value, _BODY_NAMES)) is not None:
        value = value[body]
    if isinstance(value, str) and value.lstrip().startswith("Human:"):
        return checked_prompt(with_system(row.get("system"), read_transcript_prompt(value, str(name))))
    return prompt_of(row, value, reading)


def wide_prompt_columns(row: Row) -> Iterator[str]:
    """The columns that `wide_prompt` reads."""
    name = present(row, WIDE_PROMPT_NAMES)
    if name is not None:
        yield name
    if name == "instruction":
        yield from ("input", "history")
