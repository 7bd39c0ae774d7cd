"""No prompt on both sides, whatever the order of rows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data.split import split_records
from palate.errors import DataError
from palate.records import Demonstration, Message, prompt_key


def record(number: int, prompt: str | None) -> Demonstration:
    asked = () if prompt is None else (Message("user", prompt),)
    return Demonstration(id=f"f:{number}", prompt=asked, completion=(Message("assistant", str(number)),))


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=60).filter(lambda names: len(set(names)) > 2),
    st.sampled_from([0.1, 0.3, 1, 3]),
    st.integers(0, 5),
)
def test_no_prompt_on_both_sides_in_any_order(prompts: list[str], val_size: float, seed: int) -> None:
    records = [record(n, prompt) for n, prompt in enumerate(prompts)]
    train, val = split_records(records, val_size, seed=seed)
    assert sorted(r.id for r in train + val) == sorted(r.id for r in records)
    assert not {r.prompt for r in train} & {r.prompt for r in val}
    assert train
    assert val
    shuffled = random.Random(seed).sample(records, len(records))
    again = split_records(shuffled, val_size, seed=seed)[1]
    assert {r.id for r in again} == {r.id for r in val}


def test_size_and_order() -> None:
    records = [record(n, f"prompt {n}") for n in range(100)]
    train, val = split_records(records, 0.1, seed=1)
    assert (len(train), len(val)) == (90, 10)
    assert [r.id for r in val] == [r.id for r in records if r in val]
    assert len(split_records(records, 25)[1]) == 25
    assert split_records(records, 0) == (records, [])
    assert {r.id for r in split_records(records, 0.1, seed=2)[1]} != {r.id for r in val}


def test_prompts_that_differ_in_case_and_space_are_one() -> None:
    assert prompt_key((Message("user", "What  is\nＡ?"),)) == prompt_key((Message("user", "what is a? "),))
    assert prompt_key((Message("user", "a"),)) != prompt_key((Message("system", "a"),))


def test_plain_texts_are_told_apart_by_their_text() -> None:
    train, val = split_records([record(n, None) for n in range(10)], 0.2)
    assert (len(train), len(val)) == (8, 2)
    twice = [replace(record(n // 2, None), id=f"f:{n}") for n in range(20)]
    train, val = split_records(twice, 0.2)
    assert not {r.completion for r in train} & {r.completion for r in val}
    assert (len(train), len(val)) == (16, 4)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(DataError, match="would leave nothing to train on: 3 rows with 1 different prompt"):
        split_records([record(n, "same") for n in range(3)], 0.5)
    with pytest.raises(DataError, match="would leave nothing"):
        split_records([record(n, str(n)) for n in range(3)], 3)
    for wrong in (-0.1, 1.5):
        with pytest.raises(DataError, match="val_size is"):
            split_records([record(n, str(n)) for n in range(3)], wrong)
