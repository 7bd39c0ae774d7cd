"""Formats whose rows list several answers with ranks or the place of the best one, and trees of ranked replies."""

# ruff: noqa: ARG001  (all of one table's functions have one signature, whether they use it or not)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

from palate.data.formats.labels import TIE, Coding, LabelCells
from palate.data.formats.rows import (
    Origin,
    Reading,
    Row,
    cell,
    conversation,
    pair,
    present,
    ranking,
    soft_number,
)
from palate.data.formats.voted import ASKED_NAMES, asked, asked_columns
from palate.data.turns.messages import RowError, assistant, excerpt, is_turns, parsed_list, role_of, text
from palate.records import Message, Messages, PreferencePair, Ranking

LIST_NAMES = ("completions", "responses", "answers", "outputs", "candidates", "replies", "summaries")
ITEM_NAMES = ("answer", "completion", "response", "text", "content", "output", "reply")
RANK_NAMES = ("rank", "ranks")
BEST_NAMES = (
    "best",
    "best_index",
    "best_answer",
    "best_answer_index",
    "best_response",
    "best_id",
    "choice",
    "chosen",
    "chosen_index",
    "preferred",
    "preferred_index",
    "winner",
    "label",
)
WORST_NAMES = (
    "worst",
    "worst_index",
    "worst_answer",
    "worst_answer_index",
    "worst_response",
    "worst_id",
    "rejected",
    "rejected_index",
)


def answer_list(row: Row) -> list[Any]:
    """The column that lists answers, also as JSON text; empty where a row has none."""
    name = present(row, LIST_NAMES)
    with suppress(RowError):
        return parsed_list(row[name], name) if name is not None else []
    return []


def is_ranked_answers(row: Row, reading: Reading) -> bool:
    answers = answer_list(row)
    if not answers or present(row, ASKED_NAMES) is None:
        return False
    return any(_is_list(row.get(name)) for name in RANK_NAMES) or (
        isinstance(answers[0], Mapping)
        and present(answers[0], ITEM_NAMES) is not None
        and present(answers[0], RANK_NAMES) is not None
    )


def read_ranked_answers(row: Row, origin: Origin, reading: Reading) -> Ranking:
    """`{prompt, answers: [{answer, rank}]}`, or `{answers, ranks}`; rank 0 or 1 is the best, lower is better."""
    answers = parsed_list(cell(row, *LIST_NAMES), "answers")
    beside = present(row, RANK_NAMES)
    ranks = parsed_list(row[beside], beside) if beside is not None else [_rank(answer) for answer in answers]
    if len(ranks) != len(answers):
        raise RowError("bad_ranks", f"{len(answers)} answers, {len(ranks)} ranks")
    return ranking(origin, asked(row, reading), _by_rank(answers, ranks, origin, reading))


def best_cells(row: Row, reading: Reading) -> LabelCells | None:
    """The place of the best answer of a list, and of the worst where the row names it."""
    answers, best = answer_list(row), _index_name(row, BEST_NAMES)
    if len(answers) < 2 or best is None:
        return None
    worst = _index_name(row, WORST_NAMES)
    values = (row[best],) if worst is None else (row[best], row[worst])
    places = tuple(f"answer_{place}" for place in range(1, len(answers) + 1))
    return LabelCells(best if worst is None else f"{best} and {worst}", values, places, "index")


def is_best_of_list(row: Row, reading: Reading) -> bool:
    return present(row, ASKED_NAMES) is not None and best_cells(row, reading) is not None


def read_best_of_list(row: Row, origin: Origin, reading: Reading) -> list[PreferencePair]:
    """`{prompt, answers: […], best: 2}`: the best against each other answer, or against the worst if it is named."""
    cells = best_cells(row, reading)
    if cells is None or reading.coding is None:
        raise RowError("no_label", "no column says which answer is best")
    origin.labels.extend(cells.values)
    answers = answer_list(row)
    best, *worst = [_place(value, len(answers), reading.coding) for value in cells.values]
    if worst == [best]:
        raise RowError("labels_disagree", f"answer {best + 1} is both the best and the worst")
    prompt = asked(row, reading)
    others = worst or [place for place in range(len(answers)) if place != best]
    return _pairs(
        origin, prompt, [_answer(answers[best], reading)], [_answer(answers[other], reading) for other in others]
    )


def used_columns(row: Row) -> Iterator[str]:
    """The columns that ranked answers, or a list with the place of its best answer, are read from."""
    yield from asked_columns(row)
    for names in (LIST_NAMES, RANK_NAMES):
        yield from [name for name in [present(row, names)] if name is not None]
    if present(row, RANK_NAMES) is None:
        yield from [name for names in (BEST_NAMES, WORST_NAMES) if (name := _index_name(row, names)) is not None]


def is_answer_lists(row: Row, reading: Reading) -> bool:
    """Lists of texts, each a whole answer; a list of turns is one answer."""
    lists = [row.get(name) for name in ("chosen", "rejected")]
    if present(row, ASKED_NAMES) is None or not any(isinstance(value, list) for value in lists):
        return False
    return all(isinstance(value, str) or _is_texts(value) for value in lists)


def read_answer_lists(row: Row, origin: Origin, reading: Reading) -> list[PreferencePair]:
    """`{prompt, chosen: [text, …], rejected: [text, …]}`: every chosen answer with every rejected one."""
    chosen, rejected = (
        [assistant(text(answer, name)) for answer in ([value] if isinstance(value, str) else value)]
        for name, value in (("chosen", cell(row, "chosen")), ("rejected", cell(row, "rejected")))
    )
    return _pairs(origin, asked(row, reading), chosen, rejected)


def is_message_tree(row: Row, reading: Reading) -> bool:
    prompt = row.get("prompt")
    return isinstance(prompt, Mapping) and isinstance(prompt.get("replies"), list) and "text" in prompt


def read_message_tree(row: Row, origin: Origin, reading: Reading) -> list[Ranking]:
    """A tree of OpenAssistant: each message of a user whose replies have ranks (0 is the best) gives a ranking."""
    found: list[Ranking] = []
    for prompt, replies in _asked_in(cell(row, "prompt"), ()):
        ranked = [reply for reply in replies if soft_number(reply.get("rank")) is not None]
        if len(ranked) < 2:
            continue
        answers = _by_rank(ranked, [reply["rank"] for reply in ranked], origin, reading)
        with suppress(RowError):  # replies of one rank, or with one text, are no ranking
            found.append(ranking(origin, prompt, answers))
            continue
        origin.notices.append("unranked_turn")
    if not found:
        raise RowError("no_ranks", "no message of the tree has two replies of different rank")
    return [replace(record, id=f"{record.id}#{number}") for number, record in enumerate(found, 1)]


def _asked_in(node: Mapping[str, Any], before: Messages) -> Iterator[tuple[Messages, list[Mapping[str, Any]]]]:
    """Each turn of a user in a tree: the conversation up to it, and its replies that were not deleted."""
    role = role_of(node) if "role" in node or before else "user"
    if role is None:
        raise RowError("unknown_role", f"a message of the tree is of {excerpt(node.get('role'))}")
    turns = (*before, Message(role, text(node.get("text"), "text")))
    replies = [reply for reply in node.get("replies") or [] if isinstance(reply, Mapping) and not reply.get("deleted")]
    if turns[-1].role == "user":
        yield turns, replies
    for reply in replies:
        yield from _asked_in(reply, turns)


def _by_rank(answers: Sequence[Any], ranks: Sequence[Any], origin: Origin, reading: Reading) -> list[Messages]:
    """The answers, best first. Of several with one rank the first is kept, since a ranking has no ties."""
    kept: dict[float, Any] = {}
    for answer, value in zip(answers, ranks, strict=True):
        rank = soft_number(value)
        if rank is None:
            origin.notices.append("unranked_answer")
        elif rank in kept:
            origin.notices.append("equal_rank")
        else:
            kept[rank] = answer
    best = [kept[rank] for rank in sorted(kept)]
    scores = [soft_number(answer.get("score")) if isinstance(answer, Mapping) else None for answer in best]
    if len(best) > 1 and scores[0] is not None and scores[-1] is not None and scores[0] < scores[-1]:
        raise RowError("scores_disagree", f"the best rank has the score {scores[0]:g}, the worst {scores[-1]:g}")
    return [_answer(answer, reading) for answer in best]


def _rank(answer: Any) -> Any:
    name = present(answer, RANK_NAMES) if isinstance(answer, Mapping) else None
    return answer[name] if name is not None else None


def _answer(answer: Any, reading: Reading) -> Messages:
    """An answer of a list: a text, a turn, turns, or an object that holds one of these."""
    if isinstance(answer, Mapping) and role_of(answer, reading.tags) is None:
        name = present(answer, ITEM_NAMES)
        if name is None:
            raise RowError("missing_key", f"an answer has none of {', '.join(ITEM_NAMES)}")
        answer = answer[name]
    if isinstance(answer, Mapping) and "text" in answer and "content" not in answer:
        answer = answer["text"]
    return conversation(answer, "answer", "assistant", reading)


def _index_name(row: Row, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if soft_number(row.get(name)) is not None), None)


def _place(value: Any, answers: int, coding: Coding) -> int:
    place = coding.meaning(value)
    if place == TIE:
        raise RowError("tie", f"{coding.column} is {excerpt(value)}")
    if place >= answers:
        raise RowError("bad_label", f"{coding.column} is {excerpt(value)}; there are {answers} answers")
    return place


def chosen_is_place(row: Row) -> bool:
    """Whether `chosen` is the place of an answer in a list that the row has, and no answer itself."""
    chosen, answers = row.get("chosen"), answer_list(row)
    number = soft_number(chosen)
    return isinstance(chosen, str) and number is not None and 0 <= number <= len(answers) > 1 and chosen not in answers


def _is_list(value: Any) -> bool:
    """Whether a cell is a list, also as the text that CSV has of it."""
    with suppress(RowError):
        return value is not None and value != "" and bool(parsed_list(value, ""))
    return False


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and not is_turns(value)


def _pairs(
    origin: Origin, prompt: Messages, chosen: Sequence[Messages], rejected: Sequence[Messages]
) -> list[PreferencePair]:
    """Every chosen answer with every rejected one; pairs that are none, as of equal texts, are counted as notices."""
    made: list[PreferencePair] = []
    bad: list[RowError] = []
    for good, worse in product(chosen, rejected):
        try:
            made.append(pair(origin, prompt, good, worse))
        except RowError as error:
            bad.append(error)
    if not made:
        raise (
            bad[0] if bad else RowError("too_few_answers", f"{len(chosen)} chosen and {len(rejected)} rejected answers")
        )
    origin.notices.extend(error.reason for error in bad)
    if len(made) == 1:
        return made
    return [replace(one, id=f"{one.id}#{number}") for number, one in enumerate(made, 1)]
