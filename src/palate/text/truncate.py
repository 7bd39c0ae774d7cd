"""Shortens the prompt of a row that is longer than `cutoff_len`: by old turns, then by tokens from the left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.records import Messages


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
