"""Formats whose rows list several answers with ranks or the index of the best one, and trees of ranked replies."""

# ruff: noqa: ARG001  (all functions in the table of formats have the same signature)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

from palate.data.formats.labels import TIE, Coding, LabelCells
from palate.data.formats.prompts import WIDE_PROMPT_NAMES, wide_prompt, wide_prompt_columns
from palate.data.formats.rows import Origin, Reading, Row, cell, conversation, number_or_none, pair, present, ranking
from palate.data.turns.cells import RowError, excerpt, parsed_list, text
from palate.data.turns.messages import assistant, is_turns, role_of
from palate.records import Message, Messages, PreferencePair, Ranking

LIST_NAMES = ("completions", "responses", "answers", "outputs", "candidates", "replies", "summaries")
ITEM_NAMES = ("answer", "completion", "response", "text", "content", "output", "reply")
RANK_NAMES = ("rank", "ranks")
BEST_NAMES = (
    *("best", "best_index", "best_answer", "best_answer_index", "best_response", "best_id", "choice"),
    *("chosen", "chosen_index", "preferred", "preferred_index", "winner", "label"),
)
WORST_NAMES = (
    *("worst", "worst_index", "worst_answer", "worst_answer_index", "worst_response", "worst_id"),
    *("rejected", "rejected_index"),
)


def answer_list(row: Row, names: tuple[str, ...] = LIST_NAMES) -> list[Any]:
    """The list in the first of these columns, also written as JSON text; empty if there is none."""
    name = present(row, names)
    with suppress(RowError):
        return parsed_list(row[name], name) if name is not None else []
    return []


def is_ranked_answers(row: Row, reading: Reading) -> bool:
    answers = answer_list(row)
    if not answers or present(row, WIDE_PROMPT_NAMES) is None:
        return False
    return bool(answer_list(row, RANK_NAMES)) or (
        isinstance(answers[0], Mapping)
        and present(answers[0], ITEM_NAMES) is not None
        and present(answers[0], RANK_NAMES) is not None
    )


def read_ranked_answers(row: Row, origin: Origin, reading: Reading) -> Ranking:
    """`{prompt, answers: [{answer, rank}]}`, or `{answers, ranks}`; rank 0 or 1 is the best, lower is better."""
    answers = parsed_list(cell(row, *LIST_NAMES), "answers")
    column = present(row, RANK_NAMES)
    ranks = parsed_list(row[column], column) if column is not None else [_rank(answer) for answer in answers]
    if len(ranks) != len(answers):
        raise RowError("bad_ranks", f"answers: {len(answers)}, ranks: {len(ranks)}")
    return ranking(origin, wide_prompt(row, reading), _by_rank(answers, ranks, origin, reading))


def best_cells(row: Row, reading: Reading) -> LabelCells | None:
    """The index of the best answer of a list, and of the worst if the row has it."""
    answers, best = answer_list(row), _index_name(row, BEST_NAMES)
    if len(answers) < 2 or best is None:
        return None
    worst = _index_name(row, WORST_NAMES)
    values = (row[best],) if worst is None else (row[best], row[worst])
    names = tuple(f"answer_{number}" for number in range(1, len(answers) + 1))
    return LabelCells(best if worst is None else f"{best} and {worst}", values, names, "index")


def is_best_of_list(row: Row, reading: Reading) -> bool:
    return present(row, WIDE_PROMPT_NAMES) is not None and best_cells(row, reading) is not None


def read_best_of_list(row: Row, origin: Origin, reading: Reading) -> list[PreferencePair]:
    """`{prompt, answers: […], best: 2}`: the best with every other answer, or with the worst if the row has it."""
    cells = best_cells(row, reading)
    if cells is None or reading.coding is None:
        raise RowError("no_label", "no column says which answer is best")
    origin.labels.extend(cells.values)
    answers = answer_list(row)
    best, *worst = [_answer_index(value, len(answers), reading.coding) for value in cells.values]
    if worst == [best]:
        raise RowError("labels_disagree", f"answer {best + 1} is both the best and the worst")
    prompt = wide_prompt(row, reading)
    others = worst or [index for index in range(len(answers)) if index != best]
    rejected = [_answer(answers[index], reading) for index in others]
    return _pairs(origin, prompt, [_answer(answers[best], reading)], rejected)


def used_columns(row: Row) -> Iterator[str]:
    """The columns that `read_ranked_answers` and `read_best_of_list` read."""
    yield from wide_prompt_columns(row)
    for names in (LIST_NAMES, RANK_NAMES):
        yield from [name for name in [present(row, names)] if name is not None]
    if present(row, RANK_NAMES) is None:
        yield from [name for names in (BEST_NAMES, WORST_NAMES) if (name := _index_name(row, names)) is not None]


def is_answer_lists(row: Row, reading: Reading) -> bool:
    """Whether chosen or rejected is a list of answers that are texts (a list of turns is one answer)."""
    lists = [row.get(name) for name in ("chosen", "rejected")]
    if present(row, WIDE_PROMPT_NAMES) is None or not any(isinstance(value, list) for value in lists):
        return False
    return all(isinstance(value, str) or _is_texts(value) for value in lists)


def read_answer_lists(row: Row, origin: Origin, reading: Reading) -> list[PreferencePair]:
    """`{prompt, chosen: [text, …], rejected: [text, …]}`: pairs of every chosen with every rejected answer."""
    chosen, rejected = (
        [assistant(text(answer, name)) for answer in (value if isinstance(value, list) else [value])]
        for name, value in (("chosen", cell(row, "chosen")), ("rejected", cell(row, "rejected")))
    )
    return _pairs(origin, wide_prompt(row, reading), chosen, rejected)


def is_message_tree(row: Row, reading: Reading) -> bool:
    prompt = row.get("prompt")
    return isinstance(prompt, Mapping) and isinstance(prompt.get("replies"), list) and "text" in prompt


def read_message_tree(row: Row, origin: Origin, reading: Reading) -> list[Ranking]:
    """OpenAssistant's message trees: a ranking for each user message with ranked replies (0 is the best)."""
    found: list[Ranking] = []
    for prompt, replies in _user_turns(cell(row, "prompt"), ()):
        ranked = [reply for reply in replies if number_or_none(reply.get("rank")) is not None]
        if len(ranked) < 2:
            continue
        answers = _by_rank(ranked, [reply["rank"] for reply in ranked], origin, reading)
        with suppress(RowError):  # fails if all replies have one rank or one text
            found.append(ranking(origin, prompt, answers))
            continue
        origin.notices.append("unranked_turn")
    if not found:
        raise RowError("no_ranks", "no message of the tree has two replies of different rank")
    return [replace(record, id=f"{record.id}#{number}") for number, record in enumerate(found, 1)]


def _user_turns(node: Mapping[str, Any], before: Messages) -> Iterator[tuple[Messages, list[Mapping[str, Any]]]]:
    """The conversation up to each user turn of a tree, with the replies to it that were not deleted."""
    role = role_of(node) if "role" in node or before else "user"
    if role is None:
        raise RowError("unknown_role", f"a message of the tree has the role {excerpt(node.get('role'))}")
    turns = (*before, Message(role, text(node.get("text"), "text")))
    given = node.get("replies")
    listed = given if isinstance(given, list) else []
    replies = [reply for reply in listed if isinstance(reply, Mapping) and not reply.get("deleted")]
    if turns[-1].role == "user":
        yield turns, replies
    for reply in replies:
        yield from _user_turns(reply, turns)


def _by_rank(answers: Sequence[Any], ranks: Sequence[Any], origin: Origin, reading: Reading) -> list[Messages]:
    """The answers, best first. Only the first of several with one rank is kept, because a ranking has no ties."""
    kept: dict[float, Any] = {}
    for answer, value in zip(answers, ranks, strict=True):
        rank = number_or_none(value)
        if rank is None:
            origin.notices.append("unranked_answer")
        elif rank in kept:
            origin.notices.append("equal_rank")
        else:
            kept[rank] = answer
    best = [kept[rank] for rank in sorted(kept)]
    scores = [number_or_none(answer.get("score")) if isinstance(answer, Mapping) else None for answer in best]
    if len(best) > 1 and scores[0] is not None and scores[-1] is not None and scores[0] < scores[-1]:
        raise RowError("scores_disagree", f"the best rank has the score {scores[0]:g}, the worst {scores[-1]:g}")
    return [_answer(answer, reading) for answer in best]


def _rank(answer: Any) -> Any:
    name = present(answer, RANK_NAMES) if isinstance(answer, Mapping) else None
    return answer[name] if name is not None else None


def _answer(answer: Any, reading: Reading) -> Messages:
    """An answer of a list: a text, a turn, turns, or an object with one of these."""
    if isinstance(answer, Mapping) and role_of(answer, reading.tags) is None:
        name = present(answer, ITEM_NAMES)
        if name is None:
            raise RowError("missing_key", f"an answer has none of {', '.join(ITEM_NAMES)}")
        answer = answer[name]
    if isinstance(answer, Mapping) and "text" in answer and "content" not in answer:
        answer = answer["text"]
    return conversation(answer, "answer", "assistant", reading)


def _index_name(row: Row, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if number_or_none(row.get(name)) is not None), None)


def _answer_index(value: Any, answers: int, coding: Coding) -> int:
    index = coding.meaning(value)
    if index == TIE:
        raise RowError("tie", f"{coding.column} is {excerpt(value)}")
    if index >= answers:
        raise RowError("bad_label", f"{coding.column} is {excerpt(value)}; there are {answers} answers")
    return index


def chosen_is_index(row: Row) -> bool:
    """Whether `chosen` is not an answer but the index of one in a list of the row."""
    chosen, answers = row.get("chosen"), answer_list(row)
    number = number_or_none(chosen)
    return isinstance(chosen, str) and number is not None and 0 <= number <= len(answers) > 1 and chosen not in answers


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and not is_turns(value)


def _pairs(
    origin: Origin, prompt: Messages, chosen: Sequence[Messages], rejected: Sequence[Messages]
) -> list[PreferencePair]:
    """Every chosen answer with every rejected one. Invalid pairs, such as equal texts, are counted as notices."""
    made: list[PreferencePair] = []
    bad: list[RowError] = []
    for good, worse in product(chosen, rejected):
        try:
            made.append(pair(origin, prompt, good, worse))
        except RowError as error:
            bad.append(error)
    if not made and not bad:
        raise RowError("too_few_answers", f"{len(chosen)} chosen and {len(rejected)} rejected answers")
    if not made:
        raise bad[0]
    origin.notices.extend(error.reason for error in bad)
    if len(made) == 1:
        return made
    return [replace(record, id=f"{record.id}#{number}") for number, record in enumerate(made, 1)]
