"""Finds the columns of rows with two answers by their names: answers, models, ratings and votes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from palate.data.formats.rows import Row, number_or_none
from palate.data.turns.cells import RowError, parsed_list

RATING_LISTS = ("scores", "ratings", "rewards", "score", "rating")
"""Columns that list the ratings of both answers."""

_TEXT = "response|answer|output|completion|reply|candidate|generation|summary"
_SIDE = "([0-9]|[a-z])"
_ANSWER = re.compile(rf"({_TEXT}|human_ref|conversation)[ _-]?{_SIDE}", re.IGNORECASE)
_RATING = re.compile(
    rf"(?:(?:{_TEXT}|human_ref)[ _-]?{_SIDE}[ _-])?"
    rf"(score|rating|reward|grade|overall_score|overall_rating|rank)(?:[ _-]?{_SIDE})?",
    re.IGNORECASE,
)
_MODEL = re.compile(rf"model(?:[ _-]?name)?[ _-]?{_SIDE}|(?:{_TEXT})[ _-]?{_SIDE}[ _-]?model", re.IGNORECASE)
_ANNOTATOR = re.compile(r"annotator[ _-]?\d+", re.IGNORECASE)
_ONE_HOT = re.compile(r"winner_(model_[ab]|[ab]|tie)")
_SIDES = (("0", "1"), ("1", "2"), ("a", "b"))


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """Columns that belong to two answers, first and second.

    Attributes:
        answers: their texts; None if there are none, or more than two.
        models: the models that wrote them.
        ratings: every pair of columns that rates them.
        one_hot: `winner_model_a`, `winner_model_b`, `winner_tie`: the one that is 1 names the winner.
        annotators: `annotator1`, `annotator2`, …: one vote each.
    """

    answers: tuple[str, str] | None
    models: tuple[str, str] | None
    ratings: tuple[tuple[str, str], ...]
    one_hot: tuple[str, ...]
    annotators: tuple[str, ...]


def find_columns(row: Row) -> AnswerColumns:
    """The columns of the two answers of a row."""
    return _find_columns(tuple(map(str, row)))


@lru_cache(maxsize=1024)  # rows of one source have the same columns
def _find_columns(names: tuple[str, ...]) -> AnswerColumns:
    answers: dict[str, dict[str, str]] = {}
    ratings: dict[str, dict[str, str]] = {}
    models: dict[str, str] = {}
    for name in names:
        if match := _MODEL.fullmatch(name):
            models[(match[1] or match[2]).lower()] = name
        if match := _ANSWER.fullmatch(name):
            answers.setdefault(match[1].lower(), {})[match[2].lower()] = name
        if (match := _RATING.fullmatch(name)) and (side := match[1] or match[3]):
            ratings.setdefault(f"{match[2]}{match[1] is None}".lower(), {})[side.lower()] = name
    return AnswerColumns(
        next(_pairs_of(answers), None),
        next(_pairs_of({"model": models}), None),
        tuple(_pairs_of(ratings)),
        tuple(name for name in names if _ONE_HOT.fullmatch(name)),
        tuple(sorted(name for name in names if _ANNOTATOR.fullmatch(name))),
    )


def _pairs_of(groups: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """The groups of exactly two columns that are numbered or lettered as first and second."""
    for sides in groups.values():
        for first, second in _SIDES:
            if sides.keys() == {first, second}:
                yield sides[first], sides[second]


def two_ratings(row: Row) -> tuple[float, float] | None:
    """The ratings of the first and the second answer; None if the row does not rate both.

    A rank counts as its negative, because the lower rank is the better one.
    """
    for first, second in find_columns(row).ratings:
        sign = -1 if "rank" in first.lower() else 1
        if (found := _two_numbers([row[first], row[second]])) is not None:
            return sign * found[0], sign * found[1]
    for name in RATING_LISTS:
        with suppress(RowError):
            if name in row and (found := _two_numbers(parsed_list(row[name], name))) is not None:
                return found
    return None


def _two_numbers(values: list[Any]) -> tuple[float, float] | None:
    first, second = map(number_or_none, values) if len(values) == 2 else (None, None)
    return None if first is None or second is None else (first, second)
