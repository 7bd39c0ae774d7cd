"""Mismatched completions: each row's prompt with the answer of a row that asked something else."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from palate.errors import DataError
from palate.text.encode import EncodedCompletion, EncodedGroup


def permutation(groups: Sequence[EncodedGroup], *, seed: int) -> list[int]:
    """For each group the index of the group whose completion it gets: never itself, and each is used once.

    It has another prompt, unless more than half of all groups share one. The groups are ordered prompt by prompt, by
    hashes of the seed and their content; each takes the answer of the group n positions later, where n is the number
    of groups of the most frequent prompt.

    Raises:
        DataError: there is only one group.
    """
    if len(groups) < 2:
        raise DataError(
            "pref_loss: kto estimates the KL from mismatched answers, which takes at least 2 rows in a split, not "
            f"{len(groups)}; add rows, or take pref_loss: apo_zero_unpaired"
        )
    by_prompt: dict[bytes, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        by_prompt[_digest(seed, group.prompt_key)].append(index)
    order = [
        index
        for prompt in sorted(by_prompt)
        for index in sorted(by_prompt[prompt], key=lambda i: _digest(seed, groups[i].id.encode()))
    ]
    largest = max(map(len, by_prompt.values()))
    shift = largest if 2 * largest <= len(order) else 1
    partner = [0] * len(order)
    for position, index in enumerate(order):
        partner[index] = order[(position + shift) % len(order)]
    return partner


def mismatched(groups: Sequence[EncodedGroup], *, seed: int, cutoff_len: int | None = None) -> list[EncodedGroup]:
    """Groups of K = 1 with another row's completion as their second one, truncated at its end to fit.

    The second completion is only scored, never trained on.
    """
    if not groups:
        return []
    partners = permutation(groups, seed=seed)
    return [
        replace(group, completions=(group.completions[0], _fitting(group, groups[other].completions[0], cutoff_len)))
        for group, other in zip(groups, partners, strict=True)
    ]


def _fitting(group: EncodedGroup, completion: EncodedCompletion, cutoff_len: int | None) -> EncodedCompletion:
    limit = len(completion.ids) if cutoff_len is None else cutoff_len - len(group.prompt_ids)
    if len(completion.ids) <= limit:
        return completion
    # Its first trained token is always kept: a completion without one has no log-probability.
    limit = max(limit, int(completion.trained.argmax()) + 1)
    return EncodedCompletion(completion.ids[:limit], completion.trained[:limit])


def _digest(seed: int, content: bytes) -> bytes:
    return hashlib.sha256(f"{seed}:".encode() + content).digest()
