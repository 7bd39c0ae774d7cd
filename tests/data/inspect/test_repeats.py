"""What the hashes of all rows say together is what comparing every row with every earlier one says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.inspect.repeats import (
    LABELLED,
    OTHER,
    PAIR,
    RowHashes,
    contradictions,
    crowded_prompts,
    duplicates,
    inconsistencies,
)
from palate.data.inspect.row_ids import RowIds

Row = tuple[int, int, int, int]
PAIRS = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.just(PAIR))
LABELS = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 1), st.just(LABELLED))
OTHERS = st.tuples(st.integers(0, 2), st.integers(0, 3), st.just(0), st.just(OTHER))
ROWS = st.lists(st.one_of(PAIRS, LABELS, OTHERS), max_size=40)


def hashes(rows: list[Row]) -> RowHashes:
    found = RowHashes()
    for row in rows:
        found.append(*row)
    return found


def first(rows: list[Row], before: int, wanted: Row) -> int:
    return next((place for place in range(before) if rows[place] == wanted), -1)


@settings(deadline=None)
@given(ROWS)
def test_duplicates(rows: list[Row]) -> None:
    expected = [place if (seen := first(rows, place, row)) < 0 else seen for place, row in enumerate(rows)]
    assert duplicates(hashes(rows)).tolist() == expected


@settings(deadline=None)
@given(ROWS)
def test_contradictions(rows: list[Row]) -> None:
    expected = []
    for place, (prompt, one, other, kind) in enumerate(rows):
        if kind == PAIR and one != other:
            expected.append(first(rows, place, (prompt, other, one, PAIR)))
        elif kind == LABELLED:
            expected.append(first(rows, place, (prompt, one, 1 - other, LABELLED)))
        else:
            expected.append(-1)
    assert contradictions(hashes(rows)).tolist() == expected


@settings(deadline=None)
@given(ROWS)
def test_inconsistencies(rows: list[Row]) -> None:
    expected = []
    for place, (prompt, chosen, rejected, kind) in enumerate(rows):
        earlier = [
            at
            for at, (other, best, worst, of) in enumerate(rows[:place])
            if kind == of == PAIR and other == prompt and (worst == chosen or best == rejected)
        ]
        expected.append(min(earlier, default=-1))
    assert inconsistencies(hashes(rows)).tolist() == expected


@given(ROWS)
def test_crowded_prompts(rows: list[Row]) -> None:
    prompts = [prompt for prompt, *_ in rows]
    expected = [(prompts.index(prompt), prompts.count(prompt)) for prompt in dict.fromkeys(prompts)]
    assert crowded_prompts(hashes(rows), 3) == [found for found in expected if found[1] > 3]


@given(st.lists(st.one_of(st.text(), st.from_regex(r"[ab]\.jsonl:\d{1,4}(#\d)?", fullmatch=True))))
def test_ids_come_back_as_they_were(ids: list[str]) -> None:
    kept = RowIds()
    for row_id in ids:
        kept.append(row_id)
    assert [kept[place] for place in range(len(kept))] == ids
