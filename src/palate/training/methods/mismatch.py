"""Mismatched completions: each row's prompt with the answer of a row that asked something else."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from palate.errors import DataError
from palate.text.group_file import LazyGroups
from palate.text.groups import EncodedCompletion, EncodedGroup


def permutation(groups: Sequence[EncodedGroup], *, seed: int) -> npt.NDArray[np.int64]:
    """For each group, int64 [n], the index of the group whose completion it gets: never itself, and each is used once.

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
    prompts, rows = array("Q"), array("Q")
    for group in groups:
        prompts.append(_digest(seed, group.prompt_key))
        rows.append(_digest(seed, group.id.encode()))
    order = np.lexsort((np.array(rows), np.array(prompts)))
    largest = int(np.unique(prompts, return_counts=True)[1].max())
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -(largest if 2 * largest <= len(order) else 1))
    return partner


def mismatched(groups: Sequence[EncodedGroup], *, seed: int, cutoff_len: int | None = None) -> Sequence[EncodedGroup]:
    """Groups of K = 1 with another row's completion as their second one, truncated at its end to fit.

    The second completion is only scored, never trained on.
    """
    if not groups:
        return []
    return _Mismatched(groups, permutation(groups, seed=seed), cutoff_len)


class _Mismatched(LazyGroups):
    """Groups of K = 1, each with the completion of its partner, by number, as its second one."""

    def __init__(self, groups: Sequence[EncodedGroup], partners: npt.NDArray[np.int64], cutoff_len: int | None) -> None:
        self._groups = groups
        self._partners = partners
        self._cutoff_len = cutoff_len

    def __len__(self) -> int:
        return len(self._groups)

    def read(self, index: int) -> EncodedGroup:
        group, other = self._groups[index], self._groups[self._partners[index]]
        second = _fitting(group, other.completions[0], self._cutoff_len)
        return replace(group, completions=(group.completions[0], second))


def _fitting(group: EncodedGroup, completion: EncodedCompletion, cutoff_len: int | None) -> EncodedCompletion:
    limit = len(completion.ids) if cutoff_len is None else cutoff_len - len(group.prompt_ids)
    if len(completion.ids) <= limit:
        return completion
    # Its first trained token is always kept: a completion without one has no log-probability.
    limit = max(limit, int(completion.trained.argmax()) + 1)
    return EncodedCompletion(completion.ids[:limit], completion.trained[:limit])


def _digest(seed: int, content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:".encode() + content).digest()[:8])
