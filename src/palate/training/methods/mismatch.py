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

    Nor is it a group of the same prompt, unless more than half of all groups have that prompt. The groups are put in an
    order that depends on the seed and on what they are, prompt by prompt, and then each takes the answer of the one
    that stands as many places further on as the most frequent prompt has groups.

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
    for place, index in enumerate(order):
        partner[index] = order[(place + shift) % len(order)]
    return partner


def mismatched(groups: Sequence[EncodedGroup], *, seed: int, cutoff_len: int | None = None) -> list[EncodedGroup]:
    """Groups of K = 1 with a second completion, another row's, cut at its end where it does not fit.

    It is never trained on, only scored, so that its end does not matter.
    """
    if not groups:
        return []
    partners = permutation(groups, seed=seed)
    return [
        replace(group, completions=(group.completions[0], _fitting(group, groups[other].completions[0], cutoff_len)))
        for group, other in zip(groups, partners, strict=True)
    ]


def _fitting(group: EncodedGroup, completion: EncodedCompletion, cutoff_len: int | None) -> EncodedCompletion:
    room = len(completion.ids) if cutoff_len is None else cutoff_len - len(group.prompt_ids)
    if len(completion.ids) <= room:
        return completion
    # Up to its first trained token it is never cut: a completion without one has no log-probability.
    room = max(room, int(completion.trained.argmax()) + 1)
    return EncodedCompletion(completion.ids[:room], completion.trained[:room])


def _digest(seed: int, content: bytes) -> bytes:
    return hashlib.sha256(f"{seed}:".encode() + content).digest()
