"""Formats whose rows show two answers and say by a label, by votes or by ratings which one is better."""

# ruff: noqa: ARG001  (all of one table's functions have one signature, whether they use it or not)

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from palate.data.formats.labels import ANNOTATORS, TIE, LabelCells, names_a_side, spelled
from palate.data.formats.paired import alpaca_prompt, stated_dimensions, stated_margin
from palate.data.formats.rows import (
    PROMPT_NAMES,
    Origin,
    Reading,
    Row,
    cell,
    checked_prompt,
    conversation,
    is_whole_conversation,
    pair,
    present,
    prompt_of,
    soft_number,
)
from palate.data.turns.messages import (
    RowError,
    assistant,
    excerpt,
    merged,
    parsed_list,
    read_transcript,
    read_turns,
    text,
    user,
    with_system,
)
from palate.records import Messages, PreferencePair

ASKED_NAMES = (*PROMPT_NAMES, "input", "context", "history", "post", "info")
"""Columns of the prompt where the answers are labelled or ranked."""

LABEL_NAMES = (
    "winner",
    "preference_strength",
    "overall_preference",
    "preference",
    "preferred",
    "better",
    "better_answer",
    "choice",
    "chosen",
    "vote",
    "verdict",
    "label",
    "labels",
)
"""Columns that may say which of two answers is better, the first one that a row has."""

_SIGNED = ("preference_strength", "overall_preference")
_ANSWER = re.compile(
    r"(response|answer|output|completion|reply|candidate|generation|human_ref|summary|conversation)[ _-]?([0-9]|[a-z])",
    re.IGNORECASE,
)
_RATING = re.compile(
    r"(?:(?:response|answer|output|completion|reply|candidate|generation|human_ref|summary)[ _-]?([0-9]|[a-z])[ _-])?"
    r"(score|rating|reward|grade|overall_score|overall_rating|rank)(?:[ _-]?([0-9]|[a-z]))?",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"model(?:[ _-]?name)?[ _-]?([0-9]|[a-z])"
    r"|(?:response|answer|output|completion|reply|candidate|generation|summary)[ _-]?([0-9]|[a-z])[ _-]?model",
    re.IGNORECASE,
)
_SIDES = (("0", "1"), ("1", "2"), ("a", "b"))
_RATING_LISTS = ("scores", "ratings", "rewards", "score", "rating")
_ANNOTATOR = re.compile(r"annotator[ _-]?\d+", re.IGNORECASE)
_ONE_HOT = re.compile(r"winner_(model_[ab]|[ab]|tie)")
_LONGEST_WORD = 60
_BODY_NAMES = ("full_text", "text", "post", "article", "body")


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the names of a row's columns say: answers, models, pairs of ratings, one-hot winners, annotators."""

    answers: tuple[str, str] | None
    models: tuple[str, str] | None
    ratings: tuple[tuple[str, str], ...]
    one_hot: tuple[str, ...]
    annotators: tuple[str, ...]


@lru_cache(maxsize=1024)  # rows of one source have the same columns
def _columns_of(names: tuple[str, ...]) -> _Columns:
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
    return _Columns(
        next(iter(_pairs_of(answers)), None),
        next(iter(_pairs_of({"model": models})), None),
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


def _columns(row: Row) -> _Columns:
    return _columns_of(tuple(map(str, row)))


def answer_columns(row: Row) -> tuple[str, str] | None:
    """The columns of the two answers, first and second; None where there are none, or more than two."""
    return _columns(row).answers


def two_ratings(row: Row) -> tuple[float, float] | None:
    """The ratings of the first and the second answer, in any spelling; None where the row does not rate both.

    A rank counts as its negative, since the lower one is the better.
    """
    found = [
        [_negated(value) if "rank" in first.lower() else value for value in (row[first], row[second])]
        for first, second in _columns(row).ratings
    ]
    for name in _RATING_LISTS:
        if name in row:
            with suppress(RowError):
                found.append(parsed_list(row[name], name))
    for pair_of in found:
        scores = [soft_number(score) for score in pair_of]
        if len(scores) == 2 and scores[0] is not None and scores[1] is not None:
            return scores[0], scores[1]
    return None


def _negated(rank: Any) -> float | None:
    number = soft_number(rank)
    return None if number is None else -number


def chosen_is_label(row: Row) -> bool:
    """Whether `chosen` names one of two answers that the row has in other columns, so that it is no answer itself."""
    answers, chosen = answer_columns(row), row.get("chosen")
    if answers is None or not isinstance(chosen, str) or not chosen:
        return False
    if {name for name in answers if row[name] in (chosen, row.get("rejected"))}:
        return False
    models = [value for name, value in row.items() if "model" in str(name).lower()]
    return names_a_side(chosen, answers) or chosen in models


def label_cells(row: Row, reading: Reading) -> LabelCells | None:
    """What a row of two answers says of them, None where it has no label."""
    answers = answer_columns(row)
    if answers is None:
        return None
    if (name := _label_name(row)) is not None:
        value = _as_side(row, answers, row[name])
        if name in _SIGNED:
            return LabelCells(name, (value,), answers, "signed")
        human_ref = answers[0].lower().startswith("human_ref")
        return LabelCells(name, (value,), answers, "one_is_first" if human_ref else "pair")
    columns = _columns(row)
    if len(columns.one_hot) > 1:
        won = [name.removeprefix("winner_") for name in columns.one_hot if spelled(row[name]) in ("1", "true")]
        return LabelCells("winner", (won[0] if len(won) == 1 else None,), answers)
    votes = [name for name in columns.annotators if _is_scalar(row[name])]
    if votes:
        return LabelCells(ANNOTATORS, tuple(row[name] for name in votes), answers)
    return None


def used_columns(row: Row) -> Iterator[str]:
    """The columns that a row of two answers is read from."""
    yield from asked_columns(row)
    yield from answer_columns(row) or ()
    name, columns = _label_name(row), _columns(row)
    yield from ("rejected",) if name == "chosen" else ()
    yield from (name,) if name is not None else (*columns.one_hot, *columns.annotators)
    yield from _RATING_LISTS if two_ratings(row) is not None and not columns.ratings else ()
    yield from (column for sides in columns.ratings for column in sides)


def asked_columns(row: Row) -> Iterator[str]:
    """The columns that `asked` reads the prompt from."""
    name = present(row, ASKED_NAMES)
    if name is not None:
        yield name
    if name == "instruction":
        yield from ("input", "history")


def is_two_answers(row: Row, reading: Reading) -> bool:
    if answer_columns(row) is None or not (_is_arena(row) or present(row, ASKED_NAMES) is not None):
        return False
    return label_cells(row, reading) is not None or two_ratings(row) is not None


def read_two_answers(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{prompt, response_1, response_2}` with a label, votes of several annotators, or two ratings.

    A label and two ratings in one row must agree; a row in which they do not is left out.
    """
    names = answer_columns(row)
    if names is None:
        raise RowError("missing_key", "has no two answers")
    cells, ratings = label_cells(row, reading), two_ratings(row)
    best, margin = _by_ratings(ratings) if cells is None else better_answer(cells, origin, reading)
    if cells is not None and cells.column == "chosen" and reading.coding is not None:
        worse = _as_side(row, names, row.get("rejected"))
        if _is_scalar(worse) and reading.coding.says(worse) and reading.coding.meaning(worse) == best:
            raise RowError("bad_label", f"{names[best]} is both chosen and rejected")
    if cells is not None and ratings is not None and ratings[0] != ratings[1]:
        if best != _by_ratings(ratings)[0]:
            scores = f"{ratings[0]:g} and {ratings[1]:g}"
            raise RowError("scores_disagree", f"{cells.column} prefers {names[best]}, the ratings {scores} do not")
        margin = abs(ratings[0] - ratings[1]) if margin is None else margin
    origin.notices.append("second_won" if best else "first_won")
    prompt, chosen, rejected = _sides(row, names, best, reading)
    stated = stated_margin(row)
    return pair(
        origin,
        prompt,
        chosen,
        rejected,
        margin=margin if stated is None else stated,
        dimensions=stated_dimensions(row),
    )


def better_answer(cells: LabelCells, origin: Origin, reading: Reading) -> tuple[int, float | None]:
    """The place of the better answer, and by how much it is better where the labels say so.

    Several annotators decide by majority; the margin is the difference of their votes.

    Raises:
        RowError: `tie`, `no_label`.
    """
    coding = reading.coding
    origin.labels.extend(cells.values)
    if coding is None:
        raise RowError("no_label", f"what the values of {cells.column} mean is not known")
    if len(cells.values) == 1:
        best = coding.meaning(cells.values[0])
        if best == TIE:
            raise RowError("tie", f"{cells.column} is {excerpt(cells.values[0])}")
        return best, coding.strength(cells.values[0])
    votes = [coding.meaning(value) for value in cells.values if coding.says(value)]
    if not votes:
        raise RowError("no_label", f"{cells.column} hold {excerpt(', '.join(map(str, cells.values))) or 'no vote'}")
    first, second = votes.count(0), votes.count(1)
    if first == second:
        raise RowError("tie", f"{first} votes for each answer, {votes.count(TIE)} for neither")
    return int(second > first), float(abs(first - second))


def is_label_studio(row: Row, reading: Reading) -> bool:
    data = row.get("data")
    return isinstance(data, Mapping) and isinstance(row.get("annotations"), list) and answer_columns(data) is not None


def label_studio_cells(row: Row, reading: Reading) -> LabelCells | None:
    """The choice of each annotation of a pairwise task that was not cancelled."""
    data = row.get("data")
    answers = answer_columns(data) if isinstance(data, Mapping) else None
    if answers is None:
        return None
    votes = [
        _selected(result)
        for annotation in parsed_list(row.get("annotations"), "annotations")
        if isinstance(annotation, Mapping) and not annotation.get("was_cancelled")
        for result in annotation.get("result") or [None]
    ]
    return LabelCells("selected", tuple(votes) or (None,), answers)


def read_label_studio(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """An export of Label Studio: `{data: {prompt, answer1, answer2}, annotations: [{result: [{value}]}]}`."""
    data, cells = cell(row, "data"), label_studio_cells(row, reading)
    if cells is None:
        raise RowError("missing_key", "data has no two answers")
    best, margin = better_answer(cells, origin, reading)
    origin.notices.append("second_won" if best else "first_won")
    return pair(origin, *_sides(data, (cells.answers[0], cells.answers[1]), best, reading), margin=margin)


def asked(row: Row, reading: Reading) -> Messages:
    """The prompt of a row with labelled or ranked answers: a text, turns, an HH transcript or an object with a text."""
    name = present(row, ASKED_NAMES)
    value = cell(row, *ASKED_NAMES)
    if name == "instruction" and (row.get("input") or row.get("history")):
        return alpaca_prompt(row, reading)
    if isinstance(value, Mapping) and (body := present(value, _BODY_NAMES)) is not None:
        value = value[body]
    if isinstance(value, str) and value.lstrip().startswith("Human:"):
        turns = read_transcript(value, str(name))
        ended = turns[:-1] if turns[-1].role == "assistant" and not turns[-1].content else turns
        return checked_prompt(with_system(row.get("system"), merged(ended)))
    return prompt_of(row, value, "prompt", reading)


def _label_name(row: Row) -> str | None:
    return next((name for name in LABEL_NAMES if name in row and _may_be_label(row, row[name])), None)


def _may_be_label(row: Row, value: Any) -> bool:
    """A long text is a reason or an explanation, unless it repeats one of the answers."""
    if isinstance(value, str) and len(value) > _LONGEST_WORD:
        return value in [row[name] for name in answer_columns(row) or ()]
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _as_side(row: Row, answers: tuple[str, str], value: Any) -> Any:
    """The side that a label names by repeating the answer or the name of its model; any other label as it is."""
    if not isinstance(value, str) or names_a_side(value, answers):
        return value
    models = _columns(row).models or ("model_a", "model_b")
    named = ("model_a", "model_b")
    for first, second, sides in (
        (*answers, ("first", "second")),
        (*models, named if models == named else ("first", "second")),
    ):
        texts = (row.get(first), row.get(second))
        if value in texts and texts[0] != texts[1]:
            return sides[texts.index(value)]
    return value


def _by_ratings(ratings: tuple[float, float] | None) -> tuple[int, float]:
    if ratings is None:
        raise RowError("no_label", "the row has neither a label nor two ratings")
    if ratings[0] == ratings[1]:
        raise RowError("tie", f"both answers are rated {ratings[0]:g}")
    return int(ratings[1] > ratings[0]), abs(ratings[0] - ratings[1])


def _selected(result: Any) -> Any:
    value = result.get("value") if isinstance(result, Mapping) else None
    if not isinstance(value, Mapping):
        return None
    choices = value.get("choices")
    return value.get("selected", choices[0] if isinstance(choices, list) and len(choices) == 1 else None)


def _is_arena(row: Row) -> bool:
    names = answer_columns(row)
    return names is not None and names[0].lower().startswith("conversation")


def _sides(row: Row, names: tuple[str, str], best: int, reading: Reading) -> tuple[Messages, Messages, Messages]:
    """Prompt, chosen and rejected; no prompt where both are whole conversations, as an arena publishes them."""
    values = [cell(row, names[place]) for place in (best, 1 - best)]
    if all(is_whole_conversation(value, reading) for value in values):
        chosen, rejected = (read_turns(value, names[0], reading.tags) for value in values)
        return asked(row, reading) if present(row, ASKED_NAMES) is not None else (), chosen, rejected
    turns = _texts_by_turn(row, values)
    if turns is not None:
        return (), *turns
    chosen, rejected = (
        conversation(value, name, "assistant", reading)
        for value, name in zip(values, ("chosen", "rejected"), strict=True)
    )
    return asked(row, reading), chosen, rejected


def _texts_by_turn(row: Row, values: list[Any]) -> tuple[Messages, Messages] | None:
    """Conversations of an arena whose prompts and answers are lists of texts, one a turn, also as JSON text."""
    prompts, *answers = [_list_of_texts(value) for value in (row.get("prompt"), *values)]
    if prompts is None or all(answer is None for answer in answers):
        return None
    if any(answer is None or len(answer) != len(prompts) for answer in answers):
        counts = [len(answer or ()) for answer in answers]
        raise RowError("bad_turn", f"the prompt has {len(prompts)} turns, the answers {counts[0]} and {counts[1]}")
    first, second = (
        tuple(
            turn
            for question, answer in zip(prompts, texts or (), strict=True)
            for turn in (*user(text(question, "prompt")), *assistant(text(answer, "the answer")))
        )
        for texts in answers
    )
    return first, second


def _list_of_texts(value: Any) -> list[Any] | None:
    """A list of texts and nulls, also one that a cell holds as text."""
    with suppress(RowError):
        if isinstance(value, str) and not value.lstrip().startswith("["):
            return None
        found = parsed_list(value, "")
        if any(isinstance(item, str) for item in found) and all(
            item is None or isinstance(item, str) for item in found
        ):
            return found
    return None
