"""Codings: what a set of label values means, what the user says of them, and what is not guessed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from palate.data.formats.labels import (
    TIE,
    Coding,
    LabelCells,
    LabelCounts,
    Scheme,
    find_coding,
    is_yes_or_no,
    label_key,
    names_a_side,
)
from palate.data.turns.cells import RowError
from palate.errors import DataError

NUMBERED, FROM_ZERO, LETTERS = ("response_1", "response_2"), ("answer_0", "answer_1"), ("response_a", "response_b")


def coding(
    values: Iterable[Any],
    answers: tuple[str, ...] = NUMBERED,
    scheme: Scheme = "pair",
    labels: dict[str, str] | None = None,
) -> Coding:
    found = find_coding([LabelCells("label", (value,), answers, scheme) for value in values], labels or {}, "x", {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (1, "1"), (1.0, "1"), ("1", "1"), (" 1.0 ", "1"), ("+1", "1"), (-3, "-3"), (1.25, "1.25"), (True, "true"),
        ("False", "false"), (None, ""), ("", ""), ("Model A", "model_a"), ("tie (bothbad)", "tie_bothbad"),
        ("[[B]]", "b"), ("null", ""), (float("nan"), ""),
    ],
)  # fmt: skip
def test_values_are_counted_under_one_name(value: Any, key: str) -> None:
    assert label_key(value) == key


@pytest.mark.parametrize(
    ("values", "answers", "scheme", "meanings"),
    [
        ((1, 2), NUMBERED, "pair", {1: 0, 2: 1}),
        ((0, 1), NUMBERED, "pair", {0: 0, 1: 1}),
        ((0, 1), FROM_ZERO, "pair", {0: 0, 1: 1}),
        ((1, 2), LETTERS, "pair", {1: 0, 2: 1}),
        ((-1, 1), NUMBERED, "pair", {-1: 0, 1: 1}),
        ((-2, 0, 2), LETTERS, "pair", {-2: 0, 0: TIE, 2: 1, 1: 1}),
        ((0, 1.1, 1.5, 1.8), NUMBERED, "pair", {0: TIE, 1.1: 0, 1.5: TIE, 1.8: 1}),
        (("A", "model_b", "tie"), LETTERS, "pair", {"a": 0, "B": 1, "both bad": TIE, "left": 0, "right": 1}),
        (("response_1",), ("response_0", "response_1"), "pair", {"response_1": 1, "response_0": 0}),
        ((1,), ("human_ref_A", "human_ref_B"), "one_is_first", {1: 0, 0: 1}),
        ((3,), NUMBERED, "signed", {3: 1, -1: 0, 0: TIE}),
        ((0, 3), ("a1", "a2", "a3", "a4"), "index", {0: 0, 3: 3}),
        ((1, 4), ("a1", "a2", "a3", "a4"), "index", {1: 0, 4: 3}),
        ((0, 1), (), "desirable", {0: 0, 1: 1}),
        ((-1, 0, 1), (), "desirable", {-1: 0, 0: TIE, 1: 1}),
        (("thumbs_down", True), (), "desirable", {"thumbs_down": 0, True: 1, "yes": 1}),
    ],
)
def test_what_a_set_of_values_means(
    values: tuple[Any, ...], answers: tuple[str, ...], scheme: Scheme, meanings: dict[Any, int]
) -> None:
    found = coding(values, answers, scheme)
    assert {value: found.meaning(value) for value in meanings} == meanings


@pytest.mark.parametrize(
    ("values", "answers", "scheme"),
    [
        ((1,), NUMBERED, "pair"),
        ((0,), NUMBERED, "pair"),
        ((2,), NUMBERED, "pair"),
        ((0, 1), LETTERS, "pair"),
        ((-1, 1), LETTERS, "pair"),
        ((0, 1, 2), LETTERS, "pair"),
        ((0, 1, 2), NUMBERED, "pair"),
        ((0, 1, 2), FROM_ZERO, "pair"),
        ((1, 2), FROM_ZERO, "pair"),
        ((-1, 0, 1, 2), NUMBERED, "pair"),
        ((0, 0.5, 1), NUMBERED, "pair"),
        ((True, False), NUMBERED, "pair"),
        ((0, 1, 2), ("human_ref_A", "human_ref_B"), "one_is_first"),
        ((-4, 1), NUMBERED, "signed"),
        ((1, 2), ("a1", "a2", "a3"), "index"),
        ((0, 3), ("a1", "a2", "a3"), "index"),
        ((0.5, 1), (), "desirable"),
        ((1, 2, 3), (), "desirable"),
        (("fruit", "meat"), (), "desirable"),
    ],
)
def test_what_is_not_certain_is_refused(values: tuple[Any, ...], answers: tuple[str, ...], scheme: Scheme) -> None:
    with pytest.raises(DataError, match=r"^x: label has the values .*; set labels: \{.*: …\}"):
        coding(values, answers, scheme)


def test_the_remedy_names_no_meaning_that_could_be_copied() -> None:
    with pytest.raises(DataError) as caught:
        coding((0, 1), LETTERS)
    assert str(caught.value) == (
        "x: label has the values 0 (1), 1 (1); which answer each value means is not certain; set labels: {0: …, 1: …} "
        "(--label VALUE=… for palate data) with response_a or response_b or tie or none for each value"
    )


def test_meanings_that_the_user_gives() -> None:
    found = coding((1, 1, 7), labels={"1": "second", "7": "none"})
    assert found.meaning(1) == 1
    with pytest.raises(RowError) as caught:
        found.meaning(7)
    assert (caught.value.reason, caught.value.detail) == ("no_label", "label is 7")
    assert coding((1, 2), ("a1", "a2", "a3"), "index", {"2": "answer_2"}).meaning(1) == 0
    with pytest.raises(
        DataError, match="labels says that 1 means 'best'; it can mean desirable, undesirable, tie, none"
    ):
        coding((1, 2), (), "desirable", {"1": "best"})


def test_a_word_without_meaning_leaves_its_row_out() -> None:
    found = coding(("model_a", "model_b", "broken"), LETTERS)
    with pytest.raises(RowError) as caught:
        found.meaning("broken")
    assert (caught.value.reason, caught.value.detail) == ("no_label", "label is broken")


def test_rows_that_name_answers_in_two_ways_are_refused() -> None:
    cells = [LabelCells("label", (1,), NUMBERED), LabelCells("label", (0,), FROM_ZERO)]
    with pytest.raises(DataError, match="some rows have label of response_1 and response_2, others label of answer_0"):
        find_coding(cells, {}, "x", {})


def test_no_label_at_all() -> None:
    assert find_coding([], {}, "x", {}) is None
    with pytest.raises(RowError, match="no_label: label is null"):
        coding((None, None)).meaning(None)


def test_strengths_are_graded_and_signs_are_not() -> None:
    assert coding((-3, 3)).margin(-3) == 3
    assert coding((-1, 1)).margin(-1) is None
    assert coding((1, 2)).margin(2) is None


def test_columns_are_named_as_the_source_names_them() -> None:
    cells = [LabelCells("chosen", (value,), ("answer_1", "answer_2")) for value in (0, 1)]
    columns = {"chosen": "labels", "answer_1": "human_ref_A", "answer_2": "human_ref_B"}
    with pytest.raises(DataError, match=r"labels has the values 0 \(1\), 1 \(1\).*human_ref_A or human_ref_B"):
        find_coding(cells, {}, "x", columns)
    found = find_coding(cells, {"0": "human_ref_B", "1": "human_ref_A"}, "x", columns)
    assert found is not None
    assert (found.meaning(0), found.meaning(1)) == (1, 0)


def test_many_different_numbers_take_little_memory() -> None:
    counts = LabelCounts()
    for number in range(10_000):
        counts.add(1 + number / 10_000)
    assert len(counts.rows) == 256
    assert counts.more == 10_000 - 256
    assert (counts.numbers()[0], counts.numbers()[-1]) == (1.0, 1.9999)
    found = coding(1 + number / 10_000 for number in range(10_000))
    assert (found.meaning(1.2), found.meaning(1.9)) == (0, 1)
    line = found.describe(counts)
    assert line == "label: 1 … 1.0255 → response_1 (256), and 9,744 rows with other values"


def test_words_for_a_side() -> None:
    for value in (1, "2", "left", "B", "tie", "response_2"):
        assert names_a_side(value, NUMBERED)
    for value in ("an answer", "gpt-4", True):
        assert not names_a_side(value, NUMBERED)
    assert [is_yes_or_no(value) for value in (1, "-1", "yes", 2, "fruit")] == [True, True, True, False, False]
