"""Repeats found in the table are those found by comparing every row with every earlier one."""

from __future__ import annotations

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.inspect.rows import LABELLED, PAIRS
from palate.data.inspect.summarise import contradictions, crowded_prompts, duplicates, inconsistencies

Row = tuple[int, int, int, str]
PAIR = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.just(PAIRS))
LABEL = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 1), st.just(LABELLED))
OTHER = st.tuples(st.integers(0, 2), st.integers(0, 3), st.just(0), st.just("rankings"))
ROWS = st.lists(st.one_of(PAIR, LABEL, OTHER), max_size=40)


def table(rows: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["prompt", "answer", "other", "kind"])
    return frame.astype({"prompt": "int64", "answer": "int64", "other": "int64"})


def first(rows: list[Row], before: int, wanted: Row) -> int:
    return next((place for place in range(before) if rows[place] == wanted), -1)


@settings(deadline=None)
@given(ROWS)
def test_duplicates(rows: list[Row]) -> None:
    expected = [first(rows, place, row) for place, row in enumerate(rows)]
    assert duplicates(table(rows)).tolist() == expected


@settings(deadline=None)
@given(ROWS)
def test_contradictions(rows: list[Row]) -> None:
    expected = []
    for place, (prompt, one, other, kind) in enumerate(rows):
        if kind == PAIRS and one != other:
            expected.append(first(rows, place, (prompt, other, one, PAIRS)))
        elif kind == LABELLED:
            expected.append(first(rows, place, (prompt, one, 1 - other, LABELLED)))
        else:
            expected.append(-1)
    assert contradictions(table(rows)).tolist() == expected


@settings(deadline=None)
@given(ROWS)
def test_inconsistencies(rows: list[Row]) -> None:
    expected = []
    for place, (prompt, chosen, rejected, kind) in enumerate(rows):
        earlier = [
            at
            for at, (other, best, worst, of) in enumerate(rows[:place])
            if kind == of == PAIRS and other == prompt and (worst == chosen or best == rejected)
        ]
        expected.append(min(earlier, default=-1))
    assert inconsistencies(table(rows)).tolist() == expected


@given(ROWS)
def test_crowded_prompts(rows: list[Row]) -> None:
    prompts = [prompt for prompt, *_ in rows]
    expected = [(prompts.index(prompt), prompts.count(prompt)) for prompt in dict.fromkeys(prompts)]
    assert crowded_prompts(table(rows), 3) == [found for found in expected if found[1] > 3]
