"""The values of a label column: their counts, and their meaning, inferred from all of them and the user's `labels`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from palate.data.formats.rows import number_or_none
from palate.data.turns.cells import RowError, excerpt
from palate.errors import DataError

TIE, UNLABELLED = -1, -2
"""Meanings other than the index of an answer: equally good; no label, so that the row is dropped."""

Scheme: TypeAlias = Literal["pair", "index", "desirable", "numbered", "one_is_first", "signed"]
"""How labels are written.

- `pair`: which of two answers is better; the coding is found from the set of values.
- `index`: the index of an answer in a list, counted from 0 or from 1.
- `desirable`: whether the one answer is desirable.
- `numbered`: the number in the name of the better answer's column, `response_0` or `response_1` (PKU-SafeRLHF).
- `one_is_first`: 1 if the first of two answers is better, 0 if the second is (SHP).
- `signed`: a strength, negative if the first is better, positive if the second is (HelpSteer2, HelpSteer3).
"""

ANNOTATORS = "annotators"
"""`LabelCells.column` of the votes of several annotators."""
_YES = frozenset({"true", "1", "yes", "good", "desirable", "chosen", "thumbs_up", "👍"})
_NO = frozenset({"false", "0", "-1", "no", "bad", "undesirable", "rejected", "thumbs_down", "👎"})
_TIES = frozenset(
    {"tie", "ties", "tied", "tie_bothbad", "tie_both_bad", "tie_bothgood", "both", "both_bad", "bothbad", "both_good"}
    | {"bothgood", "equal", "equally_good", "draw", "same", "neither"}
)
_SIDE = re.compile(
    r"(?:the_)?(?:model|response|answer|assistant|output|option|completion|candidate|conversation|summary|human_ref)?_?"
    r"(a|b|left|right|first|second|[0-9])"
)
_VERDICT = re.compile(r"([ab])_?(>>?|<<?|==?)_?([ab])")
_SIDE_INDEX = {"a": 0, "left": 0, "first": 0, "b": 1, "right": 1, "second": 1}
_MOST = 256


@dataclass(frozen=True, slots=True)
class LabelCells:
    """The label cells of one row.

    Attributes:
        column: the column's name in messages.
        values: its values; several if several annotators compared the answers.
        answers: the columns of the answers, or names for the answers of a list, in order.
        scheme: how the values are written.
    """

    column: str
    values: tuple[Any, ...]
    answers: tuple[str, ...]
    scheme: Scheme = "pair"


@dataclass(slots=True)
class LabelCounts:
    """How often each value occurs. Beyond 256 different values only the range of the others is kept."""

    rows: Counter[str] = field(default_factory=Counter)
    more: int = 0
    lowest: float = float("inf")
    highest: float = float("-inf")

    def add(self, value: Any) -> None:
        key = label_key(value)
        if key in self.rows or len(self.rows) < _MOST:
            self.rows[key] += 1
            return
        self.more += 1
        number = number_or_none(value)
        if number is not None:
            self.lowest, self.highest = min(self.lowest, number), max(self.highest, number)

    def numbers(self) -> list[float]:
        """The different numbers in ascending order, including the ends of the range."""
        found = {number for key in self.rows if (number := number_or_none(key)) is not None}
        return sorted(found | ({self.lowest, self.highest} if self.lowest <= self.highest else set()))

    def sorted(self) -> list[tuple[str, int]]:
        """(value, rows), numbers first and in order."""
        return sorted(self.rows.items(), key=lambda item: _as_number(item[0]))

    def __str__(self) -> str:
        shown = [f"{excerpt(key or 'null', 30)} ({count:,})" for key, count in self.sorted()]
        more = [f"and {len(shown) - 8} more"] if len(shown) > 9 else shown[8:]
        return ", ".join([*shown[:8], *more])


@dataclass(frozen=True, slots=True)
class Coding:
    """The meaning of the label values of one source.

    Attributes:
        column, scheme: as in `LabelCells`.
        answers: the columns of the answers; empty for `index`, because the lists may have any length.
        table: meaning by value, inferred or from the user: the index of an answer from 0, `TIE` or `UNLABELLED`;
            for `desirable` 1 or 0.
        scale: how numbers outside the table are read: `signed` by their sign, `one_to_two` by the nearer of 1 and 2.
        base: for `index` the number of the first answer.
        graded: whether a number is also the margin.
    """

    column: str
    scheme: Scheme
    answers: tuple[str, ...] = ()
    table: Mapping[str, int] = field(default_factory=dict)
    scale: Literal["signed", "one_to_two"] | None = None
    base: int | None = None
    graded: bool = False

    def meaning(self, value: Any) -> int:
        """The index of the better answer from 0 (for `desirable`: 1 or 0), or `TIE`.

        Raises:
            RowError: `no_label`: the value is null or names no answer.
        """
        found = self._meaning(value)
        if found == UNLABELLED:
            raise RowError("no_label", f"{self.column} is {excerpt('null' if value is None else value)}")
        return found

    def has_meaning(self, value: Any) -> bool:
        """Whether `meaning` returns something for the value."""
        return self._meaning(value) != UNLABELLED

    def margin(self, value: Any) -> float | None:
        """The margin in the source's units; None if the coding is not graded or the value is not a number."""
        number = number_or_none(value)
        return abs(number) if self.graded and number is not None else None

    def describe(self, counts: LabelCounts) -> str:
        """`label: 0 → response_1 (6), 1 → response_2 (6)` for every value that was read; many numbers as a range."""
        by_meaning: dict[str, list[tuple[str, int]]] = {}
        for key, count in counts.sorted():
            by_meaning.setdefault(self._name(self._meaning(key)), []).append((key or "null", count))
        parts = []
        for name, values in by_meaning.items():
            numbers = [key for key, _ in values if number_or_none(key) is not None]
            if len(numbers) > 2 or len(values) > 4:
                span = f"{numbers[0]} … {numbers[-1]}" if numbers else f"{len(values)} words"
                parts.append(f"{span} → {name} ({sum(count for _, count in values):,})")
            else:
                parts += [f"{key} → {name} ({count:,})" for key, count in values]
        more = [f"and {counts.more:,} rows with other values"] if counts.more else []
        return f"{self.column}: {', '.join([*parts, *more])}"

    def _meaning(self, value: Any) -> int:
        key = label_key(value)
        if key in self.table:
            return self.table[key]
        number = number_or_none(value)
        if number is None:
            return _word_meaning(key, self.answers, self.scheme)
        if self.base is not None and number.is_integer():
            return int(number) - self.base if number >= self.base else UNLABELLED
        if self.scale == "signed":
            return TIE if number == 0 else int(number > 0)
        if self.scale == "one_to_two":
            return TIE if number in (0, 1.5) else int(number > 1.5)
        return UNLABELLED

    def _name(self, meaning: int) -> str:
        if meaning < 0:
            return "tie" if meaning == TIE else "no label"
        if self.scheme == "desirable":
            return ("undesirable", "desirable")[meaning]
        return self.answers[meaning] if meaning < len(self.answers) else f"answer_{meaning + 1}"


def label_key(value: Any) -> str:
    """The key by which a label is counted: `1` for 1.0 and "1", words in lower case joined by `_`, "" for null."""
    if value is None:
        return ""
    number = None if isinstance(value, bool) else number_or_none(value)
    if number is not None:
        return str(int(number)) if number.is_integer() else repr(number)
    word = re.sub(r"[\s()\[\]\-]+", "_", str(value).strip().lower()).strip("_")
    return "" if word in ("null", "nan") else word


def names_a_side(value: Any, answers: Sequence[str]) -> bool:
    """Whether a label of two answers is a number or one of the usual words for a side or a tie."""
    return number_or_none(value) is not None or _word_meaning(label_key(value), answers, "pair") != UNLABELLED


def is_yes_or_no(value: Any) -> bool:
    """Whether a label is one of the usual values for desirable or undesirable."""
    return label_key(value) in _YES | _NO


def _word_meaning(word: str, answers: Sequence[str], scheme: Scheme) -> int:
    """The meaning of a word, which does not depend on the other values; `UNLABELLED` for an unknown word."""
    if word in _TIES:
        return TIE
    if scheme == "desirable":
        return 1 if word in _YES else 0 if word in _NO else UNLABELLED
    names = [label_key(answer) for answer in answers]
    if word in names:
        return names.index(word)
    if verdict := _VERDICT.fullmatch(word):  # A>>B, A>B, A=B, B>A, B>>A
        first, sign, second = verdict.groups()
        return UNLABELLED if first == second else TIE if "=" in sign else _SIDE_INDEX[first if ">" in sign else second]
    side = _SIDE.fullmatch(word)
    if side is None:
        return UNLABELLED
    if side[1].isdigit():
        ends = [name[-1] for name in names if name]
        return ends.index(side[1]) if side[1] in ends else UNLABELLED
    return _SIDE_INDEX[side[1]]


def _as_number(key: str) -> tuple[bool, float, str]:
    """A sort key for label values: numbers first, in order."""
    number = number_or_none(key)
    return (number is None, number or 0.0, key)


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
    values = ", ".join(f"{excerpt(key, 30)}: …" for key in sorted(counts.rows, key=_as_number)[:8] if key)
    allowed = " or ".join(_allowed(scheme, answers))
    return f"; set labels: {{{values}}} (--label VALUE=… for palate data) with {allowed} for each value"


def _uncertain_word(words: Sequence[str], answers: Sequence[str]) -> str | None:
    """A word with a number, such as `model_1`, whose numbering differs, or may differ, from that of the answers."""
    names = [label_key(answer) for answer in answers]
    ends = [name[-1:] for name in names]
    numbered = {word: side[1] for word in words if (side := _SIDE.fullmatch(word)) and side[1].isdigit()}
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
    found = int(index[1]) - 1 if index else _word_meaning(word, cells.answers, cells.scheme)
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
