"""From characters to tokens: K tokenised renderings of one record become a prompt and K completions with masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from palate.records import (
    AnyRecord,
    Dropped,
    LabelledCompletion,
    PreferencePair,
    Ranking,
    Rollouts,
    ScoredCompletion,
)
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.text.rendering import Rendering

if TYPE_CHECKING:
    from tokenizers import Encoding


def make_group(
    record: AnyRecord, stem: Encoding, renderings: Sequence[Rendering], encodings: Sequence[Encoding]
) -> EncodedGroup | Dropped:
    """One record's group.

    Args:
        record: where the group's id, weight, labels and extra numbers come from.
        stem: the beginning of all its renderings, tokenised once; may be empty.
        renderings: the K renderings after the stem.
        encodings: the same, tokenised.

    Returns the group, or why it cannot be trained on.
    """
    begun = np.array(stem.ids, dtype=np.int32)
    ids = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
    masks = [trained_tokens(rendering, encoding) for rendering, encoding in zip(renderings, encodings, strict=True)]
    shared = min(
        token_at(encoding, one.boundary, len(one.text)) for one, encoding in zip(renderings, encodings, strict=True)
    )
    for other in ids[1:]:
        differing = np.flatnonzero(ids[0][:shared] != other[:shared])
        shared = int(differing[0]) if len(differing) else shared
    if len(begun) + shared == 0:
        # Nothing stands before a first token to predict it from.
        for mask in masks:
            mask[:1] = False
    if not all(mask.any() for mask in masks):
        return Dropped(record.id, "nothing_trained", "a completion has no token of the assistant's own")
    completions = tuple(EncodedCompletion(row[shared:], mask[shared:]) for row, mask in zip(ids, masks, strict=True))
    if isinstance(record, PreferencePair | Ranking) and _any_equal(completions):
        return Dropped(record.id, "equal_after_encoding", "two completions have the same tokens")
    prompt = np.concatenate([begun, ids[0][:shared]])
    return EncodedGroup(record.id, prompt, completions, record.weight, record.source, _labels(record), _extra(record))


def token_at(encoding: Encoding, start: int, end: int) -> int:
    """Index of the first token over the characters [start, end); tokenizers may leave white space to no token."""
    for character in range(start, end):
        token: int | None = encoding.char_to_token(character)
        if token is not None:
            return token
    return len(encoding.ids)


def trained_tokens(rendering: Rendering, encoding: Encoding) -> npt.NDArray[np.bool_]:
    """bool [n]: the tokens over at least one character that the assistant wrote."""
    mask = np.zeros(len(encoding.ids), dtype=np.bool_)
    for start, end in rendering.trained:
        first = token_at(encoding, start, end)
        last = token_at(encoding, end, len(rendering.text))
        place = encoding.token_to_chars(last) if last < len(mask) else None
        if place is not None and place[0] < end:
            last += 1
        mask[first:last] = True
    return mask


def _any_equal(completions: Sequence[EncodedCompletion]) -> bool:
    return len({completion.ids.tobytes() for completion in completions}) < len(completions)


def _labels(record: AnyRecord) -> tuple[float, ...]:
    if isinstance(record, LabelledCompletion):
        return (float(record.desirable),)
    if isinstance(record, ScoredCompletion):
        return (record.score,)
    return record.rewards if isinstance(record, Rollouts) else ()


def _extra(record: AnyRecord) -> dict[str, Any]:
    if not isinstance(record, PreferencePair):
        return {}
    numbers = {"margin": record.margin, "dimensions": record.dimensions}
    return {name: value for name, value in numbers.items() if value is not None}
