"""Items as token groups: one prompt with all its answers, which are scored in one pass.

Nothing is truncated. An item whose longest answer does not fit is returned as `Dropped`, so the boundary between prompt
and answer is always that of the sequence that is scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.evaluation.benchmarks.benchmark import Item
from palate.records import Dropped, Message, Ranking
from palate.text.encode import encode_records
from palate.text.groups import EncodedGroup
from palate.text.rendering import Rendering
from palate.text.template import Template
from palate.text.tokens import make_group


def plain_groups(
    items: Sequence[Item], template: Template, limit: int, *, separator: str = " "
) -> list[EncodedGroup | Dropped]:
    """The items as plain text: prompt, separator and answer, without the chat template and without an end of text.

    Args:
        limit: longest prompt + answer, in tokens.
        separator: between prompt and answer; it belongs to the answer.
    """
    prompts = [template.plain_start + (item.plain or "") for item in items]
    texts = [prompt + separator + choice for item, prompt in zip(items, prompts) for choice in item.choices]
    encodings = iter(template.tokenize(texts))
    waiting = iter(texts)
    found: list[EncodedGroup | Dropped] = []
    for item, prompt in zip(items, prompts, strict=True):
        renderings = []
        for _ in item.choices:
            text = next(waiting)
            renderings.append(Rendering(text, len(prompt), ((len(prompt), len(text)),)))
        group = make_group(_record(item), renderings, [next(encodings) for _ in renderings])
        found.append(_within(group, limit) if isinstance(group, EncodedGroup) else group)
    return found


def chat_groups(items: Sequence[Item], template: Template, limit: int) -> list[EncodedGroup | Dropped]:
    """The items as chats: the prompt with each answer as the assistant's turn, its end of turn included."""
    encoded = encode_records([_record(item) for item in items], template, cutoff_len=limit, truncation="drop")
    by_id: dict[str, EncodedGroup | Dropped] = {group.id: group for group in encoded.groups}
    by_id.update({dropped.id: dropped for dropped in encoded.dropped})
    return [by_id[item.id] for item in items]


def prompt_groups(
    items: Sequence[Item], template: Template, limit: int, *, max_new_tokens: int
) -> list[EncodedGroup | Dropped]:
    """The prompts of items whose answers are still to be written, as groups without completions."""
    found: list[EncodedGroup | Dropped] = []
    for item in items:
        ids = np.array(template.generation_prompt(item.prompt), dtype=np.int32)
        if len(ids) + max_new_tokens > limit:
            detail = f"prompt {len(ids)} tokens and an answer of {max_new_tokens}, limit {limit}"
            found.append(Dropped(item.id, "too_long", detail))
        else:
            found.append(EncodedGroup(item.id, ids, ()))
    return found


def _record(item: Item) -> Ranking:
    answers = tuple((Message("assistant", choice),) for choice in item.choices)
    return Ranking(id=item.id, prompt=item.prompt, completions=answers)


def _within(group: EncodedGroup, limit: int) -> EncodedGroup | Dropped:
    if group.longest_row <= limit:
        return group
    return Dropped(group.id, "too_long", f"{group.longest_row} tokens with the longest answer, limit {limit}")
