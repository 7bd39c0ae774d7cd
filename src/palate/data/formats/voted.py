"""Formats whose rows have two answers and a label, votes or ratings that decide which one is better."""

# ruff: noqa: ARG001  (all functions in the table of formats have the same signature)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from palate.charts.text import amount
from palate.data.formats.answer_columns import RATING_LISTS, find_columns, two_ratings
from palate.data.formats.labels import ANNOTATORS, TIE, LabelCells, label_key, names_a_side
from palate.data.formats.paired import stated_dimensions, stated_margin
from palate.data.formats.prompts import WIDE_PROMPT_NAMES, wide_prompt, wide_prompt_columns
from palate.data.formats.rows import Origin, Reading, Row, cell, conversation, is_whole_conversation, pair, present
from palate.data.turns.cells import RowError, excerpt, parsed_list, text
from palate.data.turns.messages import assistant, read_turns, user
from palate.records import Messages, PreferencePair

LABEL_NAMES = (
    *("winner", "preference_strength", "overall_preference", "preference", "preferred", "better", "better_answer"),
    *("choice", "chosen", "vote", "verdict", "label", "labels"),
)
"""Columns that may name the better of two answers; the first of them in a row is read."""

_SIGNED = ("preference_strength", "overall_preference")
_LONGEST_LABEL = 60
"""Characters; a longer text is an explanation."""


def chosen_is_label(row: Row) -> bool:
    """Whether `chosen` is not an answer but names one of the two answers in other columns."""
    answers, chosen = find_columns(row).answers, row.get("chosen")
    if answers is None or not isinstance(chosen, str) or not chosen:
        return False
    if {name for name in answers if row[name] in (chosen, row.get("rejected"))}:
        return False
    models = [value for name, value in row.items() if "model" in str(name).lower()]
    return names_a_side(chosen, answers) or chosen in models


def label_cells(row: Row, reading: Reading) -> LabelCells | None:
    """The label cells of a row with two answers, None if it has no label."""
    columns = find_columns(row)
    if (answers := columns.answers) is None:
        return None
    if (name := _label_name(row)) is not None:
        value = _as_side(row, answers, row[name])
        if name in _SIGNED:
            return LabelCells(name, (value,), answers, "signed")
        human_ref = answers[0].lower().startswith("human_ref")
        return LabelCells(name, (value,), answers, "one_is_first" if human_ref else "pair")
    if len(columns.one_hot) > 1:
        won = [name.removeprefix("winner_") for name in columns.one_hot if label_key(row[name]) in ("1", "true")]
        return LabelCells("winner", (won[0] if len(won) == 1 else None,), answers)
    votes = [name for name in columns.annotators if _is_scalar(row[name])]
    if votes:
        return LabelCells(ANNOTATORS, tuple(row[name] for name in votes), answers)
    return None


def used_columns(row: Row) -> Iterator[str]:
    """The columns that `read_two_answers` reads."""
    yield from wide_prompt_columns(row)
    yield from find_columns(row).answers or ()
    name, columns = _label_name(row), find_columns(row)
    yield from ("rejected",) if name == "chosen" else ()
    yield from (name,) if name is not None else (*columns.one_hot, *columns.annotators)
    yield from RATING_LISTS if two_ratings(row) is not None and not columns.ratings else ()
    yield from (column for sides in columns.ratings for column in sides)


def is_two_answers(row: Row, reading: Reading) -> bool:
    names = find_columns(row).answers
    if names is None:
        return False
    is_arena = names[0].lower().startswith("conversation")  # each answer is a conversation with its prompt
    if not is_arena and present(row, WIDE_PROMPT_NAMES) is None:
        return False
    return label_cells(row, reading) is not None or two_ratings(row) is not None


def read_two_answers(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{prompt, response_1, response_2}` with a label, votes of several annotators, or two ratings.

    Raises:
        RowError: for example if the label and the ratings contradict each other.
    """
    names = find_columns(row).answers
    if names is None:
        raise RowError("missing_key", "has no two answers")
    cells, ratings = label_cells(row, reading), two_ratings(row)
    best, margin = _by_ratings(ratings) if cells is None else better_answer(cells, origin, reading)
    if cells is not None and cells.column == "chosen" and reading.coding is not None:
        worse = _as_side(row, names, row.get("rejected"))
        if _is_scalar(worse) and reading.coding.has_meaning(worse) and reading.coding.meaning(worse) == best:
            raise RowError("bad_label", f"{names[best]} is both chosen and rejected")
    if cells is not None and ratings is not None and ratings[0] != ratings[1]:
        if best != _by_ratings(ratings)[0]:
            scores = f"{ratings[0]:g} and {ratings[1]:g}"
            raise RowError("scores_disagree", f"{cells.column} prefers {names[best]}, the ratings {scores} do not")
        margin = abs(ratings[0] - ratings[1]) if margin is None else margin
    origin.notices.append("second_won" if best else "first_won")
    sides = _sides(row, names, best, reading)
    stated = stated_margin(row)
    margin = margin if stated is None else stated
    return pair(origin, *sides, margin=margin, dimensions=stated_dimensions(row))


def better_answer(cells: LabelCells, origin: Origin, reading: Reading) -> tuple[int, float | None]:
    """The index of the better answer, 0 or 1, and the margin if the labels give one.

    The majority of several annotators decides; the margin is the difference of their votes.

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
        return best, coding.margin(cells.values[0])
    votes = [coding.meaning(value) for value in cells.values if coding.has_meaning(value)]
    if not votes:
        raise RowError("no_label", f"{cells.column} are {excerpt(', '.join(map(str, cells.values))) or 'no vote'}")
    first, second = votes.count(0), votes.count(1)
    if first == second:
        raise RowError("tie", f"{amount(first, 'vote')} for each answer, {votes.count(TIE)} for neither")
    return int(second > first), float(abs(first - second))


def is_label_studio(row: Row, reading: Reading) -> bool:
    data = row.get("data")
    has_answers = isinstance(data, Mapping) and find_columns(data).answers is not None
    return has_answers and isinstance(row.get("annotations"), list)


def label_studio_cells(row: Row, reading: Reading) -> LabelCells | None:
    """The choice of each annotation of a pairwise task that was not cancelled."""
    data = row.get("data")
    answers = find_columns(data).answers if isinstance(data, Mapping) else None
    if answers is None:
        return None
    votes = [
        _selected(result)
        for annotation in parsed_list(row.get("annotations"), "annotations")
        if isinstance(annotation, Mapping) and not annotation.get("was_cancelled")
        for given in [annotation.get("result")]
        for result in (given if isinstance(given, list) and given else [None])
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


def _label_name(row: Row) -> str | None:
    return next((name for name in LABEL_NAMES if name in row and _may_be_label(row, row[name])), None)


def _may_be_label(row: Row, value: Any) -> bool:
    """Whether a cell is a label. A long text is an explanation, unless it repeats one of the answers."""
    if isinstance(value, str) and len(value) > _LONGEST_LABEL:
        return value in [row[name] for name in find_columns(row).answers or ()]
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _as_side(row: Row, answers: tuple[str, str], value: Any) -> Any:
    """The side of a label that repeats an answer or the name of its model; any other label unchanged."""
    if not isinstance(value, str) or names_a_side(value, answers):
        return value
    named, sides = ("model_a", "model_b"), ("first", "second")
    models = find_columns(row).models or named
    for (first, second), words in ((answers, sides), (models, named if models == named else sides)):
        texts = (row.get(first), row.get(second))
        if value in texts and texts[0] != texts[1]:
            return words[texts.index(value)]
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


def _sides(row: Row, names: tuple[str, str], best: int, reading: Reading) -> tuple[Messages, Messages, Messages]:
    """Prompt, chosen and rejected; the prompt is empty if both are whole conversations (arena data)."""
    values = [cell(row, names[index]) for index in (best, 1 - best)]
    if all(is_whole_conversation(value, reading) for value in values):
        chosen, rejected = (read_turns(value, names[0], reading.tags) for value in values)
        return wide_prompt(row, reading) if present(row, WIDE_PROMPT_NAMES) is not None else (), chosen, rejected
    turns = _texts_by_turn(row, values)
    if turns is not None:
        return (), *turns
    chosen, rejected = (
        conversation(value, name, "assistant", reading)
        for value, name in zip(values, ("chosen", "rejected"), strict=True)
    )
    return wide_prompt(row, reading), chosen, rejected


def _texts_by_turn(row: Row, values: list[Any]) -> tuple[Messages, Messages] | None:
    """Arena conversations whose prompt and answers are lists with one text per turn, also written as JSON text."""
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
    """A list of texts and nulls, also written as JSON text; None for any other value."""
    with suppress(RowError):
        found = parsed_list(value, "")
        is_texts = all(item is None or isinstance(item, str) for item in found)
        return found if is_texts and any(item is not None for item in found) else None
    return None
