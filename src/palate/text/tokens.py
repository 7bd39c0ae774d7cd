"""From characters to tokens: the tokenised renderings of one record become a prompt and its completions with masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from palate.records import AnyRecord, Dropped, LabelledCompletion, PreferencePair, Ranking, Rollouts, ScoredCompletion
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.text.rendering import Rendering

if TYPE_CHECKING:
    from tokenizers import Encoding


def make_group(
    record: AnyRecord, renderings: Sequence[Rendering], encodings: Sequence[Encoding]
) -> EncodedGroup | Dropped:
    """One record's group, or why it cannot be trained on.

    The prompt is the longest token prefix that the completions share and that ends at or before the boundary. A token
    across the boundary belongs to each completion and is trained.

    Args:
        record: gives the group its id, weight, labels, margin and dimensions.
        renderings: the prompt with each of the K completions.
    """
    rows = list(zip(renderings, encodings, strict=True))
    ids = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
    masks = [trained_tokens(rendering, encoding) for rendering, encoding in rows]
    shared = min(_token_at(encoding, rendering.boundary, len(rendering.text)) for rendering, encoding in rows)
    for row in ids[1:]:
        differing = np.flatnonzero(ids[0][:shared] != row[:shared])
        shared = int(differing[0]) if len(differing) else shared
    if shared == 0:
        # No token precedes the first one, so nothing can predict it.
        for mask in masks:
            mask[:1] = False
    if not all(mask.any() for mask in masks):
        return Dropped(record.id, "nothing_trained", "a completion has no token of the assistant's own")
    # Copies, because a slice would keep the whole row in memory.
    completions = tuple(
        EncodedCompletion(row[shared:].copy(), mask[shared:].copy()) for row, mask in zip(ids, masks, strict=True)
    )
    different = len({completion.ids.tobytes() for completion in completions})
    if isinstance(record, PreferencePair | Ranking) and different < len(completions):
        return Dropped(record.id, "equal_after_encoding", "two completions have the same tokens")
    prompt = ids[0][:shared].copy()
    margin, dimensions = (record.margin, record.dimensions) if isinstance(record, PreferencePair) else (None, None)
    return EncodedGroup(
        record.id, prompt, completions, record.weight, record.source, _labels(record), margin, dimensions
    )


def trained_tokens(rendering: Rendering, encoding: Encoding) -> npt.NDArray[np.bool_]:
    """bool [n]: the tokens that cover at least one character that the assistant wrote."""
    mask = np.zeros(len(encoding), dtype=np.bool_)
    for start, end in rendering.trained:
        first = _token_at(encoding, start, end)
        after = _token_at(encoding, end, len(rendering.text))
        # The token that has a character behind the span may begin in it; tokens of white space may lie on both edges.
        while after < len(encoding) and _overlaps(encoding, after, start, end):
            after += 1
        while after > first and not _overlaps(encoding, after - 1, start, end):
            after -= 1
        while first > 0 and _overlaps(encoding, first - 1, start, end):
            first -= 1
        mask[first:after] = True
    return mask


def _overlaps(encoding: Encoding, token: int, start: int, end: int) -> bool:
    """Whether a token covers one of the characters [start, end).

    Some tokenizers leave white space out of the offsets; a token of nothing else covers what lies between the token
    before it and its own place.
    """
    chars = encoding.token_to_chars(token)
    if chars is None:
        return False
    first, last = chars
    if first == last and token > 0 and (before := encoding.token_to_chars(token - 1)) is not None:
        first = before[1]
    return max(first, start) < min(last, end)


def _token_at(encoding: Encoding, start: int, end: int) -> int:
    """Index of the first token over the characters [start, end); the number of tokens if none is.

    Tokenizers may leave white space to no token.
    """
    tokens = (encoding.char_to_token(character) for character in range(start, end))
    return next((token for token in tokens if token is not None), len(encoding))


def _labels(record: AnyRecord) -> tuple[float, ...]:
    if isinstance(record, LabelledCompletion):
        return (float(record.desirable),)
    if isinstance(record, ScoredCompletion):
        return (record.score,)
    return record.rewards if isinstance(record, Rollouts) else ()
