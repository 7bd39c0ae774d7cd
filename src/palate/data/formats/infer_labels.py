"""Infers what the values of a label column mean from all values of a source and from the user's `labels`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from palate.data.formats.labels import (
    ANNOTATORS,
    SIDE,
    TIE,
    UNLABELLED,
    Coding,
    LabelCells,
    LabelCounts,
    Scheme,
    as_number,
    label_key,
    word_meaning,
)
from palate.data.formats.rows import number_or_none
from palate.data.turns.cells import excerpt
from palate.errors import DataError


def find_coding(
    cells: Iterable[LabelCells], labels: Mapping[str, str], where: str, columns: Mapping[str, str]
) -> Coding | None:
    """Infers the coding of a source; None if no row has a label.

    Args:
        cells: the label cells of every row that has some.
        labels: meanings by value from the user; they override the inferred ones.
        columns: the source's own names of renamed columns.

    Raises:
        DataError: the values fit no coding, or more than one; the message lists the values and how to set `labels`.
    """
    counts, longest, first = LabelCounts(), False, None
    for row in cells:
        first = first or row
        if row.scheme != "index" and (row.column, row.answers) != (first.column, first.answers):
            names = [f"{cells.column} of {' and '.join(cells.answers) or 'one answer'}" for cells in (first, row)]
            raise DataError(f"{where}: some rows have {names[0]}, others {names[1]}; make one dataset of each")
        for value in row.values:
            counts.add(value)
            longest = longest or (row.scheme == "index" and number_or_none(value) == len(row.answers))
    if first is None:
        return None
    column = columns.get(first.column, first.column)
    answers = () if first.scheme == "index" else tuple(columns.get(name, name) for name in first.answers)
    meanings = {label_key(key): _user_meaning(key, word, first, answers, where) for key, word in labels.items()}
    rest = [number for number in counts.numbers() if label_key(number) not in meanings]
    coding = Coding(column, first.scheme, answers, meanings)
    found = _infer(coding, rest, longest)
    words = [key for key in counts.rows if key not in meanings and number_or_none(key) is None]
    if first.scheme == "pair" and (word := _uncertain_word(words, answers)):
        found = f"which answer {word} means is not certain"
    if isinstance(found, Coding):
        if not any(counts.rows) or any(found.has_meaning(key) for key in counts.rows):
            return found
        found = "none of these names an answer"
    raise DataError(f"{where}: {column} has the values {counts}; {found}{remedy(counts, first.scheme, answers)}")


def remedy(counts: LabelCounts, scheme: Scheme, answers: Sequence[str]) -> str:
    """The `labels` setting to add. It suggests no meanings, so that copying it cannot give wrong ones."""
    values = ", ".join(f"{excerpt(key, 30)}: …" for key in sorted(counts.rows, key=as_number)[:8] if key)
    allowed = " or ".join(_allowed(scheme, answers))
    return f"; set labels: {{{values}}} (--label VALUE=… for palate data) with {allowed} for each value"


def _uncertain_word(words: Sequence[str], answers: Sequence[str]) -> str | None:
    """A word with a number, such as `model_1`, whose numbering differs, or may differ, from that of the answers."""
    names = [label_key(answer) for answer in answers]
    ends = [name[-1:] for name in names]
    numbered = {word: side[1] for word in words if (side := SIDE.fullmatch(word)) and side[1].isdigit()}
    outside = next((word for word, end in numbered.items() if end not in ends), None)
    if outside is None and ends[:1] == ["0"] and "0" not in numbered.values():
        return next((word for word in numbered if word not in names), None)
    return outside


def _infer(coding: Coding, numbers: Sequence[float], longest: bool) -> Coding | str:
    """The coding completed by what the numbers mean, or why that is not certain."""
    if not numbers:
        return coding
    if coding.scheme == "pair":
        return _infer_pair(coding, numbers)
    if coding.scheme == "index":
        return _infer_index(coding, numbers, longest)
    if coding.scheme == "signed":
        outside = next((number for number in numbers if abs(number) > 3), None)
        if outside is not None:
            return f"a strength is -3 … 3, not {outside:g}"
        return replace(coding, scale="signed", graded=True)
    table = {1: 0, 0: 1} if coding.scheme == "one_is_first" else {0: 0, 1: 1}
    if coding.scheme == "desirable" and -1 in numbers:
        table = {-1: 0, 0: TIE, 1: 1}
    unknown = next((number for number in numbers if number not in table), None)
    if unknown is not None:
        return f"{unknown:g} is none of {', '.join(map(str, sorted(table)))}"
    return _with_table(coding, table)


def _infer_pair(coding: Coding, numbers: Sequence[float]) -> Coding | str:
    """Which of two answers is meant, by the set of values and the number in the first answer's column name."""
    values, answers = set(numbers), coding.answers
    first = int(answers[0][-1]) if answers and answers[0][-1:].isdigit() else None  # None: the columns are lettered
    if len(values) == 1:
        return "one value alone does not say how the answers are counted"
    if values == {1, 2} and first != 0:
        return _with_table(coding, {1: 0, 2: 1})
    if values == {0, 1} and first is not None:
        return _with_table(coding, {0: 0, 1: 1})
    if values == {0, 1, 2} and first == 1 and coding.column == ANNOTATORS:  # in a single label column 2 may be the tie
        return _with_table(coding, {0: TIE, 1: 0, 2: 1})
    has_fractions = any(not value.is_integer() for value in values)
    if first == 1 and has_fractions and all(value == 0 or 1 <= value <= 2 for value in values):
        return replace(coding, scale="one_to_two")
    if numbers[0] == -numbers[-1] and (first is not None or numbers[-1] > 1):
        return replace(coding, scale="signed", graded=numbers[-1] > 1)
    return "which answer each value means is not certain"


def _infer_index(coding: Coding, numbers: Sequence[float], longest: bool) -> Coding | str:
    """Whether the answers are counted from 0 or 1, by the user's meanings or else by a 0 or the length of a list."""
    named = [(number, index) for key, index in coding.table.items() if (number := number_or_none(key)) is not None]
    bases = {int(number) - index for number, index in named if index >= 0}
    if not bases:
        bases = ({0} if 0 in numbers else set()) | ({1} if longest else set())
    if len(bases) != 1 or any(not number.is_integer() for number in numbers):
        return "whether the answers are counted from 0 or from 1 is not certain"
    return replace(coding, base=bases.pop())


def _with_table(coding: Coding, table: Mapping[int, int]) -> Coding:
    return replace(coding, table={**{str(value): meaning for value, meaning in table.items()}, **coding.table})


def _user_meaning(value: Any, meaning: str, cells: LabelCells, answers: Sequence[str], where: str) -> int:
    """The meaning that the user gives to a value."""
    word = label_key(meaning)
    if word in ("none", "no_label"):
        return UNLABELLED
    if cells.scheme != "desirable" and meaning in (names := [*answers, *cells.answers]):
        return names.index(meaning) % max(1, len(cells.answers))
    index = re.fullmatch(r"answer_([1-9][0-9]?)", word) if cells.scheme == "index" else None
    found = int(index[1]) - 1 if index else word_meaning(word, cells.answers, cells.scheme)
    if found == UNLABELLED:
        allowed = ", ".join(_allowed(cells.scheme, answers))
        raise DataError(f"{where}: labels says that {value} means {meaning!r}; it can mean {allowed}")
    return found


def _allowed(scheme: Scheme, answers: Sequence[str]) -> list[str]:
    if scheme == "desirable":
        return ["desirable", "undesirable", "tie", "none"]
    if scheme == "index":
        return ["answer_1", "answer_2", "…", "none"]
    return [*answers, "tie", "none"]
