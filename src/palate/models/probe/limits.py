"""Positions and token ids for which a model has no weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from palate.errors import DataError
from palate.models.attention.rotary import rope_parameters
from palate.models.upstream import base_of
from palate.text.groups import EncodedGroup

_POSITIONS = re.compile(r"(wpe|position|pos_enc|pos_emb)")
# OPT's table has two more rows than positions; others are padded a little.
_SPARE = 8


def position_limit(model: Any) -> int | None:
    """Length of a table of positions (GPT-2, OPT, GPT-J …); None without a table."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or any(True for _ in rope_parameters(config)):
        return None
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dim() == 2 and limit <= tensor.shape[0] <= limit + _SPARE and _POSITIONS.search(name):
            return limit
    return None


def trained_length(model: Any) -> int | None:
    """The longest sequence, in tokens, according to the config; None if it names none."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def token_rows(model: Any) -> int:
    """Number of token ids that the model can read and, with a language model's head, score."""
    rows, width = model.get_input_embeddings().weight.shape
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    # A quantised head's weight has another shape, and PEFT's wrapper of a tied head has no weight.
    if weight is None or weight.dim() != 2 or weight.shape[1] != width:
        return int(rows)
    return int(min(rows, weight.shape[0]))


def check_sequences(model: Any, rows: Iterable[tuple[str, Sequence[int]]], *, new_tokens: int = 0) -> None:
    """Refuse rows (a name for messages, and token ids) that the model cannot read, before it reads any.

    Raises:
        DataError: names the first row with a token id that has no embedding, or that is too long.
    """
    base = base_of(model)
    known, limit = token_rows(base), position_limit(base)
    for name, ids in rows:
        highest = int(np.max(ids)) if len(ids) else 0
        if highest >= known:
            raise DataError(
                f"{name}: the token id {highest} has no embedding, the model has {known} rows; use the tokenizer that "
                "belongs to the model"
            )
        if limit is not None and len(ids) + new_tokens > limit:
            more = f" and {new_tokens} new ones" if new_tokens else ""
            raise DataError(
                f"{name}: {len(ids)} tokens{more} are too many, the model's table of positions ends at {limit}"
            )


def rows_of(groups: Iterable[EncodedGroup]) -> Iterator[tuple[str, Sequence[int]]]:
    """(id, prompt and completion) of each completion, for `check_sequences`."""
    for group in groups:
        for completion in group.completions:
            yield f"row {group.id}", np.concatenate([group.prompt_ids, completion.ids])  # type: ignore[misc]
