"""Formats whose rows have one answer (plain, labelled or scored), no answer, or a plain, rated or scored list."""

# ruff: noqa: ARG001  (all functions in the table of formats have the same signature)

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from palate.data.formats.labels import TIE, LabelCells, is_yes_or_no, label_key
from palate.data.formats.listed import BEST_NAMES, RANK_NAMES, WORST_NAMES, answer_list
from palate.data.formats.paired import CONVERSATION_NAMES, read_prompt_pair
from palate.data.formats.prompts import alpaca_prompt, prompt_of
from palate.data.formats.rows import (
    COMPLETION_NAMES,
    PROMPT_NAMES,
    Origin,
    RatedAnswers,
    Reading,
    Row,
    before_last_answer,
    cell,
    checked_completion,
    checked_prompt,
    conversation,
    is_whole_conversation,
    number,
    number_or_none,
    one_answer,
    present,
    ranking,
    scored,
    without_prompt,
)
from palate.data.turns.cells import RowError, excerpt, parsed_list, text
from palate.data.turns.messages import assistant, is_transcript, is_turns, read_turns, role_of, with_system
from palate.records import Demonstration, LabelledCompletion, Messages, Ranking, Record, Rollouts, ScoredCompletion

LABEL_NAMES = ("label", "kto_tag", "desirable")
SCORE_NAMES = ("score", "reward")
HELPSTEER_NAMES = ("helpfulness", "correctness", "coherence")
ANSWER_LIST_NAMES = ("completions", "responses", "answers", "outputs")
ANSWER_NAMES = ("response", "completion", "answer", "text", "content", "output")
RATING_NAMES = ("overall_score", "score", "rating", "fine-grained_score")
PREFERENCE_COLUMNS = (*BEST_NAMES, *WORST_NAMES, *RANK_NAMES, "ranking", "rankings", "ratings", "order", "preference")
"""Columns that name the better of several answers; without one, their order is the ranking."""
_PREFERENCE_WORD = re.compile(
    r"best|better|winners?|winning|win|won|worst|worse|chosen|choice|rejected|accepted|prefer.*|select(ed|ion)?"
    r"|ranks?|ranked|rankings?|scores?|scored|ratings?|rated|rewards?|(up|down)?votes?|likes|correct(ness)?|gold|labels?"
    r"|labell?ed|quality|verdicts?|judge?ments?|grades?|order"
)
"""Words in names of other columns that may name the better of several answers."""
_INDEX_COLUMN = re.compile(
    r"(answer|response|completion|output|candidate|reply|gt|target|truth|true)_?(index|idx|id|no|number)?"
)


def has_prompt(row: Row) -> bool:
    return present(row, PROMPT_NAMES) is not None


def has_answer(row: Row) -> bool:
    return has_prompt(row) and any(isinstance(row.get(name), str | list | Mapping) for name in COMPLETION_NAMES)


def has_conversation(row: Row, reading: Reading) -> bool:
    return _conversation_name(row, reading) is not None


def is_messages(row: Row, reading: Reading) -> bool:
    """Whether a row has a conversation that ends with an answer, and no label."""
    name = _conversation_name(row, reading)
    last = None if name is None or is_labelled(row, reading) else row[name][-1]
    return isinstance(last, Mapping) and role_of(last, reading.tags) == "assistant"


def read_messages(row: Row, origin: Origin, reading: Reading) -> Demonstration:
    """`{messages}` or `{conversations}`: every answer after the first user turn is trained."""
    turns = _conversation(row, reading)
    starts = [
        number
        for number, message in enumerate(turns)
        if message.role == "assistant" and any(before.role in ("user", "tool") for before in turns[:number])
    ]
    if not starts:
        raise RowError("no_assistant_turn", "no answer follows a user turn")
    return one_answer(Demonstration, origin, turns[: starts[0]], turns[starts[0] :])


def is_alpaca(row: Row, reading: Reading) -> bool:
    return "instruction" in row and isinstance(row.get("output"), str) and not is_labelled(row, reading)


def read_alpaca(row: Row, origin: Origin, reading: Reading) -> Demonstration:
    """`{instruction, input, output}`, also with `history` and `system`."""
    answer = conversation(cell(row, "output"), "completion", "assistant", reading)
    return one_answer(Demonstration, origin, alpaca_prompt(row), answer)


def is_prompt_completion(row: Row, reading: Reading) -> bool:
    return has_answer(row) and not is_labelled(row, reading)


def read_prompt_completion(row: Row, origin: Origin, reading: Reading) -> Demonstration:
    """`{prompt, completion}`, or `response`, `answer`, `output`."""
    return one_answer(Demonstration, origin, *_exchange(row, reading))


def is_text(row: Row, reading: Reading) -> bool:
    one_turn = "role" in row or "parent_id" in row  # of a dataset with one turn per row
    return isinstance(row.get("text"), str) and not has_prompt(row) and not one_turn


def read_text(row: Row, origin: Origin, reading: Reading) -> Demonstration:
    """`{text}`: plain text without a prompt, for continued pre-training."""
    completion = checked_completion(assistant(text(cell(row, "text"), "text")), "text")
    return Demonstration(**origin.fields(), prompt=(), completion=completion)


def is_labelled(row: Row, reading: Reading) -> bool:
    """Whether a row has a label of its answer. Label columns may also hold topics, so the value must be known."""
    name = present(row, LABEL_NAMES)
    known = name is not None and (is_yes_or_no(row[name]) or label_key(row[name]) in reading.request.labels)
    return known and (has_conversation(row, reading) or has_answer(row))


def label_cells(row: Row, reading: Reading) -> LabelCells | None:
    """The label of the answer."""
    name = present(row, LABEL_NAMES)
    return None if name is None else LabelCells(name, (row[name],), (), "desirable")


def read_labelled(row: Row, origin: Origin, reading: Reading) -> LabelledCompletion:
    """`{messages, label}` or `{prompt, completion, label}`; the label is for the last answer."""
    label = cell(row, *LABEL_NAMES)
    origin.labels.append(label)
    if reading.coding is None:
        raise RowError("no_label", "what the values of the label mean is not known")
    meaning = reading.coding.meaning(label)
    if meaning == TIE:
        raise RowError("tie", f"{reading.coding.column} is {excerpt(label)}")
    return one_answer(LabelledCompletion, origin, *_last_exchange(row, reading), desirable=meaning == 1)


def is_scored(row: Row, reading: Reading) -> bool:
    return present(row, SCORE_NAMES) is not None and (has_answer(row) or has_conversation(row, reading))


def read_scored(row: Row, origin: Origin, reading: Reading) -> ScoredCompletion:
    """`{prompt, response, score}` with the score in 0 … 1."""
    return scored(origin, *_last_exchange(row, reading), cell(row, *SCORE_NAMES))


def is_helpsteer(row: Row, reading: Reading) -> bool:
    return has_answer(row) and all(number_or_none(row.get(name)) is not None for name in HELPSTEER_NAMES)


def read_helpsteer(row: Row, origin: Origin, reading: Reading) -> ScoredCompletion:
    """HelpSteer and HelpSteer2: one answer per row with five ratings of 0 … 4; the score is helpfulness / 4."""
    helpfulness = number(cell(row, "helpfulness"), "helpfulness")
    return scored(origin, *_exchange(row, reading), None if helpfulness is None else helpfulness / 4)


def is_prompt(row: Row, reading: Reading) -> bool:
    return has_prompt(row) or has_conversation(row, reading)


def read_prompt(row: Row, origin: Origin, reading: Reading) -> Record:
    """The prompt of any row, for commands that sample answers.

    Answers at the end of a conversation (turns or an HH transcript) are removed. If chosen and rejected are whole
    conversations, the turns that both share are the prompt, as in pairs.
    """
    if all(is_whole_conversation(row.get(side), reading) for side in ("chosen", "rejected")):
        return Record(**origin.fields(), prompt=read_prompt_pair(row, origin, reading).prompt)
    turns_name = _conversation_name(row, reading)
    if turns_name is None and present(row, PROMPT_NAMES) == "instruction":
        return Record(**origin.fields(), prompt=alpaca_prompt(row))
    name = turns_name or present(row, PROMPT_NAMES)
    if name is None:
        raise RowError("missing_prompt", f"the columns are {', '.join(map(str, row)) or 'none'}")
    value = row[name]
    if not is_turns(value, reading.tags) and not is_transcript(value):
        return Record(**origin.fields(), prompt=prompt_of(row, value, reading))
    turns = before_last_answer(conversation(value, "prompt", "user", reading))
    return Record(**origin.fields(), prompt=checked_prompt(with_system(row.get("system"), turns)))


def is_ranked(row: Row, reading: Reading) -> bool:
    """Whether a row lists answers in order, with no other column that may name the better one."""
    return _is_listed(row) and not preference_columns(row)


def preference_columns(row: Row) -> list[str]:
    """The columns of a row with a list of answers that may name the better one, so that its order is not a ranking."""
    name = "output" if isinstance(row.get("output"), list) else present(row, ANSWER_LIST_NAMES)
    answers = row["output"] if name == "output" else answer_list(row, ANSWER_LIST_NAMES)
    others = ((str(key), value) for key, value in row.items() if key != name and value is not None)
    return [key for key, value in others if key in PREFERENCE_COLUMNS or _may_be_preference(key, value, answers)]


def _may_be_preference(key: str, value: Any, answers: list[Any]) -> bool:
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", key)]
    if any(_PREFERENCE_WORD.fullmatch(word) for word in words):
        return True
    if isinstance(value, str) and value in answers[1:]:
        return key not in PROMPT_NAMES
    index = number_or_none(value)
    return _INDEX_COLUMN.fullmatch("_".join(words)) is not None and index is not None and 0 <= index <= len(answers)


def _is_listed(row: Row) -> bool:
    """Whether a row lists answers without scores inside the list."""
    answers = row["output"] if "output" in row else answer_list(row, ANSWER_LIST_NAMES)
    return has_prompt(row) and isinstance(answers, list) and bool(answers) and not _is_rated_answer(answers[0])


def unclear_order_columns(row: Row) -> list[str]:
    """`preference_columns` if they are the only reason why the row is not a ranking, else an empty list."""
    has_scores = "rewards" in row or "scores" in row
    return preference_columns(row) if _is_listed(row) and not has_scores else []


def read_ranked(row: Row, origin: Origin, reading: Reading) -> Ranking:
    """`{instruction, input, output: [best, …, worst], history}` or `{prompt, completions: [best, …, worst]}`."""
    prompt = alpaca_prompt(row) if "instruction" in row else _prompt(row, reading)
    return ranking(origin, prompt, _answers(row, reading))


def is_rated(row: Row, reading: Reading) -> bool:
    answers = answer_list(row, ANSWER_LIST_NAMES)
    return has_prompt(row) and bool(answers) and _is_rated_answer(answers[0])


def read_rated(row: Row, origin: Origin, reading: Reading) -> RatedAnswers:
    """UltraFeedback: `{instruction, completions: [{response, overall_score, annotations, …}]}`."""
    kept: list[tuple[Messages, float, dict[str, float]]] = []
    for index, answer in enumerate(parsed_list(cell(row, *ANSWER_LIST_NAMES), "completions")):
        name = f"completions[{index}]"
        if not isinstance(answer, Mapping):
            raise RowError("not_an_object", f"{name} is {excerpt(answer)}")
        turns = conversation(cell(answer, *ANSWER_NAMES), name, "assistant", reading)
        score = next((found for key in RATING_NAMES if (found := number_or_none(answer.get(key))) is not None), None)
        if score is None or turns[-1].is_empty:
            origin.notices.append("unrated_answer" if score is None else "empty_answer")
        else:
            kept.append((turns, score, _aspects(answer.get("annotations"))))
    if len(kept) < 2:
        raise RowError("too_few_answers", f"answers with a text and a score: {len(kept)}; a comparison needs 2")
    prompt, answers = without_prompt(origin, _prompt(row, reading), [turns for turns, _, _ in kept])
    return RatedAnswers(
        **origin.fields(),
        prompt=checked_prompt(prompt),
        completions=tuple(checked_completion(answer, "answer") for answer in answers),
        scores=tuple(score for _, score, _ in kept),
        dimensions=tuple(aspects for _, _, aspects in kept),
        highest=10.0 if any("overall_score" in answer for answer in answer_list(row, ANSWER_LIST_NAMES)) else None,
    )


def is_rollouts(row: Row, reading: Reading) -> bool:
    has_preference = any(row.get(name) is not None for name in PREFERENCE_COLUMNS)
    return _is_listed(row) and ("rewards" in row or "scores" in row) and not has_preference


def read_rollouts(row: Row, origin: Origin, reading: Reading) -> Rollouts:
    """`{prompt, completions, rewards}`: sampled answers, each with its reward."""
    prompt, answers = without_prompt(origin, _prompt(row, reading), _answers(row, reading))
    answers = tuple(checked_completion(answer, "answer") for answer in answers)
    given = parsed_list(cell(row, "rewards", "scores"), "rewards")
    rewards = [float(value) if isinstance(value, bool) else number(value, "reward") for value in given]
    if len(rewards) != len(answers) or None in rewards:
        raise RowError("bad_rewards", f"{len(answers)} answers, rewards {excerpt(rewards)}")
    values = tuple(math.nan if value is None else value for value in rewards)
    return Rollouts(**origin.fields(), prompt=checked_prompt(prompt), completions=answers, rewards=values)


def _conversation_name(row: Row, reading: Reading) -> str | None:
    return next((name for name in CONVERSATION_NAMES if is_turns(row.get(name), reading.tags)), None)


def _conversation(row: Row, reading: Reading) -> Messages:
    turns = read_turns(cell(row, *CONVERSATION_NAMES), "messages", reading.tags)
    return with_system(row.get("system"), turns)


def _prompt(row: Row, reading: Reading) -> Messages:
    return prompt_of(row, cell(row, *PROMPT_NAMES), reading)


def _exchange(row: Row, reading: Reading) -> tuple[Messages, Messages]:
    """Prompt and answer; the prompt may be an instruction with input and history."""
    prompt = alpaca_prompt(row) if "instruction" in row and "prompt" not in row else _prompt(row, reading)
    return prompt, conversation(cell(row, *COMPLETION_NAMES), "completion", "assistant", reading)


def _last_exchange(row: Row, reading: Reading) -> tuple[Messages, Messages]:
    """The last answer of a conversation and the turns before it, or prompt and answer of two columns."""
    if present(row, CONVERSATION_NAMES) is None:
        return _exchange(row, reading)
    turns = _conversation(row, reading)
    return turns[:-1], turns[-1:]


def _answers(row: Row, reading: Reading) -> list[Messages]:
    values = parsed_list(cell(row, "output", *ANSWER_LIST_NAMES), "answers")
    # An empty list of turns is an empty answer, which the ranking leaves out.
    return [() if value == [] else conversation(value, "answer", "assistant", reading) for value in values]


def _is_rated_answer(answer: Any) -> bool:
    if not isinstance(answer, Mapping):
        return False
    return present(answer, ANSWER_NAMES) is not None and present(answer, RATING_NAMES) is not None


def _aspects(annotations: Any) -> dict[str, float]:
    """UltraFeedback's ratings by aspect, without those that are "N/A"."""
    if not isinstance(annotations, Mapping):
        return {}
    ratings = {
        name: number_or_none(note.get("Rating")) for name, note in annotations.items() if isinstance(note, Mapping)
    }
    return {name: rating for name, rating in ratings.items() if rating is not None}
