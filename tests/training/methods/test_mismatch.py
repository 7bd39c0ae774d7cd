"""Mismatched completions: a permutation that never gives a row its own answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.errors import DataError
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.methods.mismatch import mismatched, permutation


def group(row: int, prompt: int, answer: int = 3, trained_from: int = 0) -> EncodedGroup:
    ids = np.arange(answer, dtype=np.int32) + 10 * row
    answers = (EncodedCompletion(ids, np.arange(answer) >= trained_from),)
    return EncodedGroup(f"row:{row}", np.array([prompt, prompt], dtype=np.int32), answers)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_each_answer_is_used_once_and_never_by_its_own_row(prompts: list[int], seed: int) -> None:
    groups = [group(row, prompt) for row, prompt in enumerate(prompts)]
    partners = permutation(groups, seed=seed)
    assert sorted(partners) == list(range(len(groups)))
    assert all(partner != row for row, partner in enumerate(partners))
    if 2 * max(map(prompts.count, prompts)) <= len(prompts):
        assert all(prompts[partner] != prompt for prompt, partner in zip(prompts, partners, strict=True))


def test_it_depends_on_rows_and_seed_and_not_on_their_order() -> None:
    groups = [group(row, row % 7) for row in range(20)]
    given_ids = {groups[i].id: groups[p].id for i, p in enumerate(permutation(groups, seed=1))}
    turned = groups[::-1]
    assert {turned[i].id: turned[p].id for i, p in enumerate(permutation(turned, seed=1))} == given_ids
    assert {groups[i].id: groups[p].id for i, p in enumerate(permutation(groups, seed=2))} != given_ids


def test_a_single_row_has_no_mismatch() -> None:
    with pytest.raises(DataError, match=r"at least 2 rows in a split, not 1; .*apo_zero_unpaired"):
        mismatched([group(0, 1)], seed=0)
    assert mismatched([], seed=0) == []


def test_own_answer_first_and_the_other_cut_at_its_end() -> None:
    groups = [group(0, 1, answer=3), group(1, 2, answer=9)]
    short, long = mismatched(groups, seed=0, cutoff_len=6)
    assert short.completions[0] is groups[0].completions[0]
    assert short.completions[1].ids.tolist() == groups[1].completions[0].ids[:4].tolist()
    assert long.completions[1] is groups[0].completions[0]
    assert len(mismatched(groups, seed=0)[0].completions[1].ids) == 9


def test_a_cut_answer_keeps_a_trained_token() -> None:
    groups = [group(0, 1), group(1, 2, answer=9, trained_from=7)]
    cut = mismatched(groups, seed=0, cutoff_len=5)[0].completions[1]
    assert (len(cut.ids), cut.trained.sum()) == (8, 1)
