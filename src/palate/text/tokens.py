"""From characters to tokens: K tokenised renderings of one record become a prompt and K completions with masks."""

from __future__ import annotations

from collections.abc import Sequence

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
from palate.text.words import Tokens


def make_group(
    record: AnyRecord, stem: Tokens, renderings: Sequence[Rendering], tokens: Sequence[Tokens]
) -> EncodedGroup | Dropped:
    """One record's group.

    Args:
        record: where the group's id, weight, labels, margin and dimensions come from.
        stem: the beginning of all its renderings, tokenised once; may be empty.
        renderings: the K renderings after the stem.
        tokens: the same, tokenised, with places around the boundary and the ends of the trained spans.

    Returns the group, or why it cannot be trained on.
    """
    begun = stem.ids
    ids = [row.ids for row in tokens]
    masks = [trained_tokens(rendering, row) for rendering, row in zip(renderings, tokens, strict=True)]
    shared = min(row.token_at(one.boundary, len(one.text)) for one, row in zip(renderings, tokens, strict=True))
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
    margin, dimensions = (record.margin, record.dimensions) if isinstance(record, PreferencePair) else (None, None)
    return EncodedGroup(
        record.id, prompt, completions, record.weight, record.source, _labels(record), margin, dimensions
    )


def trained_tokens(rendering: Rendering, tokens: Tokens) -> npt.NDArray[np.bool_]:
    """bool [n]: the tokens over at least one character that the assistant wrote."""
    mask = np.zeros(len(tokens.ids), dtype=np.bool_)
    for start, end in rendering.trained:
        first = tokens.token_at(start, end)
        last = tokens.token_at(end, len(rendering.text))
        mask[first : last + tokens.straddles(last, end)] = True
    return mask


def _any_equal(completions: Sequence[EncodedCompletion]) -> bool:
    return len({completion.ids.tobytes() for completion in completions}) < len(completions)


def _labels(record: AnyRecord) -> tuple[float, ...]:
    if isinstance(record, LabelledCompletion):
        return (float(record.desirable),)
    if isinstance(record, ScoredCompletion):
        return (record.score,)
    return record.rewards if isinstance(record, Rollouts) else ()
