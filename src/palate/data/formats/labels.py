"""What the values of a label column mean: found from all values of a source, or named by the user as `labels`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from palate.data.formats.rows import soft_number
from palate.data.turns.messages import RowError, excerpt
from palate.errors import DataError

TIE, UNLABELLED = -1, -2
"""Meanings that are no answer: neither is better; the value says nothing, so the row is left out."""

Scheme: TypeAlias = Literal["pair", "index", "wanted", "numbered", "one_is_first", "signed"]
"""What a label can mean.

- `pair`: which of two answers is better; the coding is found from the set of values.
- `index`: the place of an answer in a list, counted from 0 or from 1.
- `wanted`: whether the one answer is wanted.
- `numbered`: the number in the name of the better answer's column, `response_0` or `response_1` (PKU-SafeRLHF).
- `one_is_first`: 1 where the first of two answers is better, 0 where the second is (card of SHP).
- `signed`: a strength, negative where the first is better, positive where the second is (cards of HelpSteer2, 3).
"""

ANNOTATORS = "annotators"
"""What the label cells of several annotators are called."""
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
_PLACES = {"a": 0, "left": 0, "first": 0, "b": 1, "right": 1, "second": 1}
_MOST = 256


@dataclass(frozen=True, slots=True)
class LabelCells:
    """The label cells of one row.

    Attributes:
        column: the column, for a person.
        values: what it holds; several where several annotators compared the answers.
        answers: the columns of the answers, or their places in a list, in order.
        scheme: what the values can mean.
    """

    column: str
    values: tuple[Any, ...]
    answers: tuple[str, ...]
    scheme: Scheme = "pair"


@dataclass(slots=True)
class LabelCounts:
    """How often each value occurs. Of more than 256 different ones the further ones are kept as a range of numbers."""

    rows: Counter[str] = field(default_factory=Counter)
    more: int = 0
    lowest: float = float("inf")
    highest: float = float("-inf")

    def add(self, value: Any) -> None:
        key = spelled(value)
        if key in self.rows or len(self.rows) < _MOST:
            self.rows[key] += 1
            return
        self.more += 1
        number = soft_number(value)
        if number is not None:
            self.lowest, self.highest = min(self.lowest, number), max(self.highest, number)

    def numbers(self) -> list[float]:
        """The different numbers, ascending; of those kept as a range its ends."""
        found = {number for key in self.rows if (number := soft_number(key)) is not None}
        return sorted(found | ({self.lowest, self.highest} if self.lowest <= self.highest else set()))

    def __str__(self) -> str:
        shown = [
            f"{excerpt(key or 'null', 30)} ({count:,})" for key, count in sorted(self.rows.items(), key=_by_number)
        ]
        more = [f"and {len(shown) - 8} more"] if len(shown) > 9 else shown[8:]
        return ", ".join([*shown[:8], *more])


@dataclass(frozen=True, slots=True)
class Coding:
    """What the values of one source's label column mean.

    Attributes:
        column, scheme: as in `LabelCells`.
        answers: the answers' columns; empty for `index`, whose rows may hold lists of any length.
        table: meaning by value, as found or as the user says: the place of an answer from 0, `TIE` or `UNLABELLED`;
            for `wanted` 1 or 0.
        scale: how numbers outside the table are read: `signed` by their sign, `one_to_two` by the nearer of 1 and 2.
        base: for `index` the number of the first answer.
        graded: whether a number also says by how much an answer is better.
    """

    column: str
    scheme: Scheme
    answers: tuple[str, ...] = ()
    table: Mapping[str, int] = field(default_factory=dict)
    scale: Literal["signed", "one_to_two"] | None = None
    base: int | None = None
    graded: bool = False

    def meaning(self, value: Any) -> int:
        """The place of the better answer from 0 (for `wanted`: 1 or 0), or `TIE`.

        Raises:
            RowError: `no_label`: the value is null, says nothing, or names no answer.
        """
        found = self._meaning(value)
        if found == UNLABELLED:
            raise RowError("no_label", f"{self.column} is {excerpt('null' if value is None else value)}")
        return found

    def says(self, value: Any) -> bool:
        """Whether a value has a meaning."""
        return self._meaning(value) != UNLABELLED

    def strength(self, value: Any) -> float | None:
        """By how much the better answer is better, in the source's units, where the label says so."""
        number = soft_number(value)
        return abs(number) if self.graded and number is not None else None

    def described(self, counts: LabelCounts) -> str:
        """`label: 0 → response_1 (6), 1 → response_2 (6)`, every value that was read; many numbers as a range."""
        by_meaning: dict[str, list[tuple[str, int]]] = {}
        for key, count in sorted(counts.rows.items(), key=_by_number):
            by_meaning.setdefault(self._name(self._meaning(key)), []).append((key or "null", count))
        parts = []
        for name, values in by_meaning.items():
            numbers = [key for key, _ in values if soft_number(key) is not None]
            if len(numbers) > 2 or len(values) > 4:
                span = f"{numbers[0]} … {numbers[-1]}" if numbers else f"{len(values)} words"
                parts.append(f"{span} → {name} ({sum(count for _, count in values):,})")
            else:
                parts += [f"{key} → {name} ({count:,})" for key, count in values]
        more = [f"and {counts.more:,} rows with other values"] if counts.more else []
        return f"{self.column}: {', '.join([*parts, *more])}"

    def _meaning(self, value: Any) -> int:
        key = spelled(value)
        if key in self.table:
            return self.table[key]
        number = soft_number(value)
        if number is None:
            return _word(key, self.answers, self.scheme)
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
        if self.scheme == "wanted":
            return ("undesirable", "desirable")[meaning]
        return self.answers[meaning] if meaning < len(self.answers) else f"answer_{meaning + 1}"


def spelled(value: Any) -> str:
    """A label as it is counted and named: `1` of 1.0 and "1", words in lower case joined by `_`; "" of null."""
    if value is None:
        return ""
    number = None if isinstance(value, bool) else soft_number(value)
    if number is not None:
        return str(int(number)) if number.is_integer() else repr(number)
    word = re.sub(r"[\s()\[\]\-]+", "_", str(value).strip().lower()).strip("_")
    return "" if word in ("null", "nan") else word


def names_a_side(value: Any, answers: Sequence[str]) -> bool:
    """Whether a label of two answers is a number or one of the usual words for a side or a tie."""
    return soft_number(value) is not None or _word(spelled(value), answers, "pair") != UNLABELLED


def is_yes_or_no(value: Any) -> bool:
    """Whether a label says that an answer is wanted or not, in one of the usual ways."""
    return spelled(value) in _YES | _NO


def find_coding(
    cells: Iterable[LabelCells], labels: Mapping[str, str], where: str, columns: Mapping[str, str]
) -> Coding | None:
    """The coding of a source, None where no row has a label.

    Args:
        cells: of every row of the source that has label cells.
        labels: meanings that the user gives, by value; they go before what the values suggest.
        where: the source's path, for the refusal.
        columns: the source's own name of a column that was renamed.

    Raises:
        DataError: the values fit no coding, or more than one; in one line with the values seen and the remedy.
    """
    counts, longest, first = LabelCounts(), False, None
    for row in cells:
        first = first or row
        if row.scheme != "index" and (row.column, row.answers) != (first.column, first.answers):
            names = [f"{cells.column} of {' and '.join(cells.answers) or 'one answer'}" for cells in (first, row)]
            raise DataError(f"{where}: some rows have {names[0]}, others {names[1]}; make one dataset of each")
        for value in row.values:
            counts.add(value)
            longest = longest or (row.scheme == "index" and soft_number(value) == len(row.answers))
    if first is None:
        return None
    column = columns.get(first.column, first.column)
    answers = tuple(columns.get(name, name) for name in first.answers)
    if first.scheme == "index":
        answers = ()
    given = {spelled(value): _given_meaning(value, meaning, first, answers, where) for value, meaning in labels.items()}
    rest = [number for number in counts.numbers() if spelled(number) not in given]
    coding = Coding(column, first.scheme, answers, given)
    found = _fitting(coding, rest, longest)
    if first.scheme == "pair" and (word := _uncertain_word([key for key in counts.rows if key not in given], answers)):
        found = f"which answer {word} means is not certain"
    if isinstance(found, Coding):
        if not any(counts.rows) or any(found.says(key) for key in counts.rows):
            return found
        found = "none of these names an answer"
    raise DataError(f"{where}: {column} holds {counts}; {found}{remedy(counts, first.scheme, answers)}")


def remedy(counts: LabelCounts, scheme: Scheme, answers: Sequence[str]) -> str:
    """How a user says what the values mean; no value is given a meaning here, so that a copy of it cannot be wrong."""
    values = ", ".join(f"{excerpt(key, 30)}: …" for key in sorted(counts.rows, key=_as_number)[:8] if key)
    allowed = " or ".join(_allowed(scheme, answers))
    return f"; set labels: {{{values}}} (--label VALUE=… for palate data) with {allowed} for each value"


def _uncertain_word(words: Sequence[str], answers: Sequence[str]) -> str | None:
    """A word with a number, as `model_1`, of a source whose words are counted otherwise than its answers, or may be."""
    names = [spelled(answer) for answer in answers]
    ends = [name[-1:] for name in names]
    sides = {word: side[1] for word in words if soft_number(word) is None and (side := _SIDE.fullmatch(word))}
    numbered = {word: end for word, end in sides.items() if end.isdigit()}
    outside = next((word for word, end in numbered.items() if end not in ends), None)
    if outside is None and ends[:1] == ["0"] and "0" not in numbered.values():
        return next((word for word in numbered if word not in names), None)
    return outside


def _fitting(coding: Coding, numbers: Sequence[float], longest: bool) -> Coding | str:
    """The coding with what the numbers suggest, or why they suggest nothing certain."""
    if not numbers:
        return coding
    if coding.scheme == "wanted":
        return _with(coding, {0: 0, 1: 1} if -1 not in numbers else {-1: 0, 0: TIE, 1: 1}, numbers)
    if coding.scheme == "numbered":
        return _with(coding, {0: 0, 1: 1}, numbers)
    if coding.scheme == "one_is_first":
        return _with(coding, {1: 0, 0: 1}, numbers)
    if coding.scheme == "index":
        return _index(coding, numbers, longest)
    if coding.scheme == "signed":
        outside = next((number for number in numbers if abs(number) > 3), None)
        if outside is not None:
            return f"a strength is -3 … 3, not {outside:g}"
        return _with(coding, {}, (), scale="signed", graded=True)
    return _pair(coding, numbers)


def _pair(coding: Coding, numbers: Sequence[float]) -> Coding | str:
    """Which of two answers, by the set of values and how the columns are counted."""
    values = set(numbers)
    counted = _counted(coding.answers)
    if len(values) == 1:
        return "one value alone does not say how the answers are counted"
    if values == {1, 2} and counted != 0:
        return _with(coding, {1: 0, 2: 1}, numbers)
    if values == {0, 1} and counted is not None:
        return _with(coding, {0: 0, 1: 1}, numbers)
    if values == {0, 1, 2} and counted == 1 and coding.column == ANNOTATORS:  # of one label 2 may as well be the tie
        return _with(coding, {0: TIE, 1: 0, 2: 1}, numbers)
    if counted == 1 and any(not value.is_integer() for value in values) and _is_one_to_two(values):
        return _with(coding, {}, (), scale="one_to_two")
    if numbers[0] == -numbers[-1] and (counted is not None or numbers[-1] > 1):
        return _with(coding, {}, (), scale="signed", graded=numbers[-1] > 1)
    return "which answer each value means is not certain"


def _is_one_to_two(values: set[float]) -> bool:
    return all(value == 0 or 1 <= value <= 2 for value in values)


def _counted(answers: Sequence[str]) -> int | None:
    """The number in the first answer's column name, None where the columns are lettered."""
    return int(answers[0][-1]) if answers and answers[0][-1:].isdigit() else None


def _index(coding: Coding, numbers: Sequence[float], longest: bool) -> Coding | str:
    named = [(number, place) for key, place in coding.table.items() if (number := soft_number(key)) is not None]
    bases = {int(number) - place for number, place in named if place >= 0}
    if not bases:
        bases = ({0} if 0 in numbers else set()) | ({1} if longest else set())
    if len(bases) != 1 or any(not number.is_integer() for number in numbers):
        return "whether the answers are counted from 0 or from 1 is not certain"
    base = bases.pop()
    return Coding(coding.column, coding.scheme, (), coding.table, base=base)


def _with(
    coding: Coding,
    table: Mapping[int, int],
    numbers: Sequence[float],
    *,
    scale: Literal["signed", "one_to_two"] | None = None,
    graded: bool = False,
) -> Coding | str:
    """The coding with a table that covers every number, else the number that it does not know."""
    found = {str(value): meaning for value, meaning in table.items()}
    unknown = next((number for number in numbers if spelled(number) not in found), None)
    if unknown is not None:
        known = ", ".join(map(str, sorted(table)))
        return f"{unknown:g} is none of {known}"
    return Coding(coding.column, coding.scheme, coding.answers, {**found, **coding.table}, scale, None, graded)


def _given_meaning(value: Any, meaning: str, cells: LabelCells, answers: Sequence[str], where: str) -> int:
    """What the user says that a value means."""
    word = spelled(meaning)
    if word in ("none", "no_label"):
        return UNLABELLED
    if cells.scheme != "wanted" and meaning in (names := [*answers, *cells.answers]):
        return names.index(meaning) % max(1, len(cells.answers))
    place = re.fullmatch(r"answer_([1-9][0-9]?)", word) if cells.scheme == "index" else None
    found = int(place[1]) - 1 if place else _word(word, cells.answers, cells.scheme)
    if found == UNLABELLED:
        allowed = ", ".join(_allowed(cells.scheme, answers))
        raise DataError(f"{where}: labels says that {value} means {meaning!r}; it can mean {allowed}")
    return found


def _allowed(scheme: Scheme, answers: Sequence[str]) -> list[str]:
    if scheme == "wanted":
        return ["desirable", "undesirable", "tie", "none"]
    if scheme == "index":
        return ["answer_1", "answer_2", "…", "none"]
    return [*answers, "tie", "none"]


def _word(word: str, answers: Sequence[str], scheme: Scheme) -> int:
    """The meaning of a word, whatever other values the source holds; `UNLABELLED` for one that has none."""
    if word in _TIES:
        return TIE
    if scheme == "wanted":
        return 1 if word in _YES else 0 if word in _NO else UNLABELLED
    names = [spelled(answer) for answer in answers]
    if word in names:
        return names.index(word)
    if verdict := _VERDICT.fullmatch(word):  # A>>B, A>B, A=B, B>A, B>>A
        first, sign, second = verdict.groups()
        return UNLABELLED if first == second else TIE if "=" in sign else _PLACES[first if ">" in sign else second]
    side = _SIDE.fullmatch(word)
    if side is None:
        return UNLABELLED
    if side[1].isdigit():
        ends = [name[-1] for name in names if name]
        return ends.index(side[1]) if side[1] in ends else UNLABELLED
    return _PLACES[side[1]]


def _as_number(key: str) -> tuple[bool, float, str]:
    number = soft_number(key)
    return (number is None, number or 0.0, key)


def _by_number(item: tuple[str, int]) -> tuple[bool, float, str]:
    return _as_number(item[0])
