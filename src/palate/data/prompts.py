"""Prompts to answer: the conversation so far of every row of a dataset, whichever other columns the row has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palate.charts.text import amount
from palate.data.formats.paired import CONVERSATION_NAMES
from palate.data.formats.rows import PROMPT_NAMES
from palate.data.load import load_records
from palate.data.turns.messages import is_turns, role_of
from palate.errors import DataError
from palate.records import DatasetRequest, DatasetSpec, Dropped, Record

_FIRST = 100
_OF_THE_PROMPT = frozenset({*PROMPT_NAMES, *CONVERSATION_NAMES, "input", "history", "context", "system", "tools", "id"})


def load_prompts(dataset: DatasetSpec | DatasetRequest, **choices: Any) -> tuple[list[Record], list[Dropped]]:
    """A record of each row's prompt, the conversation up to the assistant's turn, and the rows that have none.

    Rows are read as training reads them: mapped columns and tags of `dataset_info.json`, HH transcripts, and the
    prompt of every known format. A record's `extra` has all columns of its row.

    Args:
        choices: other fields of `DatasetRequest`; `max_dropped` is ignored: any number of rows may lack a prompt.

    Raises:
        DataError: the dataset cannot be read, or no row has a prompt.
    """
    request = DatasetRequest.of(dataset, **{**choices, "max_dropped": 1.0})
    loaded = load_records(request, kind=Record, keep_columns=True)
    prompts = [record for record in loaded.records if record.prompt]
    plain = [Dropped(record.id, "missing_prompt", "plain text") for record in loaded.records if not record.prompt]
    if not prompts:
        where = loaded.sources[0].path
        raise DataError(f"{where}: no row has a prompt, they are plain text; name a column: prompt, messages, question")
    return prompts, [*loaded.dropped, *plain]


def left_out_line(dropped: Sequence[Dropped]) -> str:
    """How many rows have no prompt, and the first of them."""
    return f"left out: {amount(len(dropped), 'row')} without a prompt, first {dropped[0].id}: {dropped[0].reason}"


def unread_columns(prompts: Sequence[Record]) -> list[str]:
    """Columns of the first rows of `load_prompts` that are not part of the prompt: answers, scores, labels.

    `messages (answers)` are assistant turns at the end of a conversation.
    """
    found: dict[str, None] = {}
    for record in prompts[:_FIRST]:
        for name, value in record.extra.items():
            if name not in _OF_THE_PROMPT:
                found[name] = None
            elif is_turns(value) and role_of(value[-1]) == "assistant":
                found[f"{name} (answers)"] = None
    return list(found)
