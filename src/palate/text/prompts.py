"""Prompts: shortened to fit, and as groups without completions for online stages, which sample the answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate.errors import DataError
from palate.records import Dropped, Messages, Record
from palate.text.groups import Cut, Encoded, EncodedGroup, EncodingStats
from palate.text.rendering import Renderer
from palate.text.template import Template


def prompt_ids(record: Record, template: Template) -> list[int]:
    """The token ids after which a model answers the record's prompt, its tools included.

    Raises:
        DataError: the chat template refuses the conversation, or `tools` is not a JSON list.
    """
    return template.generation_prompt(record.prompt, tools=record.tools)


def encode_prompts(records: Sequence[Record], template: Template, *, limit: int, truncation: str = "auto") -> Encoded:
    """Each record's prompt, with generation prompt, in at most `limit` tokens.

    Args:
        truncation: `auto` shortens longer prompts as for other stages (oldest turns first, then from the left);
            `drop` drops them.
    """
    groups: list[EncodedGroup] = []
    dropped: list[Dropped] = []
    cuts: list[Cut] = []
    over = 0
    renderer = Renderer(template)
    for record in records:
        try:
            renderer.check_prompt(record.prompt, record.tools)
            whole = ids = prompt_ids(record, template)
            long = len(ids) > limit
            over += long
            if long and truncation == "auto":
                ids, turns = _shortened(record, ids, template, limit)
                cuts.append(Cut(record.id, len(whole) - len(ids), turns))
        except DataError as error:
            dropped.append(Dropped(record.id, "template_refused", str(error)))
            continue
        if len(ids) > limit:
            dropped.append(
                Dropped(record.id, "too_long", f"prompt {len(ids)} tokens, {limit} leave room for an answer")
            )
            continue
        prompt = np.array(ids, dtype=np.int32)
        groups.append(EncodedGroup(record.id, prompt, (), record.weight, record.source, record=record))
    source_of = {record.id: record.source for record in records}
    return Encoded(groups, dropped, cuts, EncodingStats(records=len(records), over_length=over), source_of)


def _shortened(record: Record, ids: list[int], template: Template, limit: int) -> tuple[list[int], int]:
    """The ids of the shortened prompt, and how many turns were removed."""
    prompt, turns = record.prompt, 0
    while len(ids) > limit and (shorter := without_oldest_turn(prompt)) is not None:
        prompt, turns = shorter, turns + 1
        ids = template.generation_prompt(prompt, tools=record.tools)
    if len(ids) > limit:
        cut = cut_left(np.array(ids, dtype=np.int32), limit, template.tokenizer.bos_token_id)
        ids = ids if cut is None else cut.tolist()
    return ids, turns


def without_oldest_turn(prompt: Messages) -> Messages | None:
    """The prompt without its oldest turn, or None if only the last turn is left.

    A turn is a user message with everything up to the next user message (answers, tool calls and results). System
    messages at the beginning stay.
    """
    first = next((i for i, message in enumerate(prompt) if message.role != "system"), len(prompt))
    following = next((i for i in range(first + 1, len(prompt)) if prompt[i].role == "user"), None)
    return None if following is None else (*prompt[:first], *prompt[following:])


def cut_left(prompt_ids: npt.NDArray[np.int32], limit: int, bos: int | None) -> npt.NDArray[np.int32] | None:
    """The last tokens of a prompt that fit into `limit` tokens, after its BOS if it begins with one.

    Returns None if no token of the prompt itself would be left.
    """
    keeps_bos = bos is not None and len(prompt_ids) > 0 and prompt_ids[0] == bos
    tail = limit - int(keeps_bos)
    if tail < 1:
        return None
    return np.concatenate([prompt_ids[: int(keeps_bos)], prompt_ids[len(prompt_ids) - tail :]])
