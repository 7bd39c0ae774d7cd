"""Formats whose rows have one answer (to imitate, with a label, with a score), none, or a list of them."""

# ruff: noqa: ARG001  (all of one table's functions have one signature, whether they use it or not)

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from palate.data.formats.labels import TIE, LabelCells, is_yes_or_no, spelled
from palate.data.formats.listed import BEST_NAMES, RANK_NAMES, WORST_NAMES
from palate.data.formats.paired import CONVERSATION_NAMES, alpaca_prompt, read_prompt_pair
from palate.data.formats.rows import (
    COMPLETION_NAMES,
    PROMPT_NAMES,
    Origin,
    RatedAnswers,
    Reading,
    Row,
    cell,
    checked_completion,
    checked_prompt,
    conversation,
    demonstration,
    is_whole_conversation,
    labelled,
    number,
    present,
    prompt_of,
    ranking,
    scored,
    soft_number,
    without_prompt,
)
from palate.data.turns.messages import (
    RowError,
    assistant,
    excerpt,
    is_transcript,
    is_turns,
    parsed_list,
    read_turns,
    role_of,
    text,
    with_system,
)
from palate.records import Demonstration, LabelledCompletion, Messages, Ranking, Record, Rollouts, ScoredCompletion

LABEL_NAMES = ("label", "kto_tag", "desirable")
SCORE_NAMES = ("score", "reward")
HELPSTEER_NAMES = ("helpfulness", "correctness", "coherence")
ANSWER_LIST_NAMES = ("completions", "responses", "answers", "outputs")
ANSWER_NAMES = ("response", "completion", "answer", "text", "content", "output")
RATING_NAMES = ("overall_score", "score", "rating", "fine-grained_score")
SAYS_WHICH = (*BEST_NAMES, *WORST_NAMES, *RANK_NAMES, "ranking", "rankings", "ratings", "order", "preference")
"""Columns that say which of several answers is better, so that their order need not."""
_MAY_SAY_WHICH = re.compile(
    r"best|better|winners?|winning|win|won|worst|worse|chosen|choice|rejected|accepted|prefer.*|select(ed|ion)?"
    r"|ranks?|ranked|rankings?|scores?|scored|ratings?|rated|rewards?|(up|down)?votes?|likes|correct(ness)?|gold|labels?"
    r"|labell?ed|quality|verdicts?|judge?ments?|grades?|order"
)
"""Words in the name of a column that may say which of several answers is better."""
_PLACE = re.compile(
    r"(answer|response|completion|output|candidate|reply|gt|target|truth|true)_?(index|idx|id|no|number)?"
)


def has_prompt(row: Row) -> bool:
    return present(row, PROMPT_NAMES) is not None


def has_answer(row: Row) -> bool:
    return has_prompt(row) and any(isinstance(row.get(name), str | list | Mapping) for name in COMPLETION_NAMES)


def has_conversation(row: Row, reading: Reading) -> bool:
    return any(is_turns(row.get(name), reading.tags) for name in CONVERSATION_NAMES)


def is_messages(row: Row, reading: Reading) -> bool:
    """A conversation that ends with an answer, and nothing says whether the answer is wanted."""
    if is_labelled(row, reading):
        return False
    turns = next((row[name] for name in CONVERSATION_NAMES if is_turns(row.get(name), reading.tags)), None)
    return turns is not None and isinstance(turns[-1], Mapping) and role_of(turns[-1], reading.tags) == "assistant"


def read_messages(row: Row, origin: Origin, reading: Reading) -> Demonstration:
    """`{messages}` or `{conversations}`: every answer after the first user turn is to be imitated."""
    turns = _conversation(row, reading)
    starts = [
        number
        for number, message in enumerate(turns)
        if message.role == "assistant" and any(before.role in ("user", "tool") for before in turns[:number])
    ]
    if not starts:
        raise RowError("no_assistant_turn", "no answer follows a user turn")
    return demonstration(origin, turns[: starts[0]], turns[starts[0] :])


def is_alpaca(row: Row, reading: Reading) -> bool:
    return "instruction" in row and isinstance(row.get("output"), str) and not is_labelled(row, reading)


def read_alpaca(row: Row, origin: Origin, reading: Reading) -> Demonstration:
    """`{instruction, input, output}` with `history` and `system` where a row has them."""
    answer = conversation(cell(row, "output"), "completion", "assistant", reading)
    return demonstration(origin, alpaca_prompt(row, reading), answer)


def is_prompt_completion(row: Row, reading: Reading) -> bool:
    return has_answer(row) and not is_labelled(row, reading)


def read_prompt_completion(row: Row, origin: Origin, reading: Reading) -> Demonstration:
    """`{prompt, completion}`, or `response`, `answer`, `output`."""
    return demonstration(origin, *_exchange(row, reading))


def is_text(row: Row, reading: Reading) -> bool:
    one_turn = "role" in row or "parent_id" in row  # of a conversation whose turns are rows of their own
    return isinstance(row.get("text"), str) and not has_prompt(row) and not one_turn


def read_text(row: Row, origin: Origin, reading: Reading) -> Demonstration:
    """`{text}`: plain text to go on training a base model, without a prompt."""
    completion = checked_completion(assistant(text(cell(row, "text"), "text")), "text")
    return Demonstration(**origin.fields(), prompt=(), completion=completion)


def is_labelled(row: Row, reading: Reading) -> bool:
    """A label column may also name a topic, so the label must be one that can be understood."""
    name = present(row, LABEL_NAMES)
    known = name is not None and (is_yes_or_no(row[name]) or spelled(row[name]) in reading.labels)
    return known and (has_conversation(row, reading) or has_answer(row))


def label_cells(row: Row, reading: Reading) -> LabelCells | None:
    """Whether the answer is wanted."""
    name = present(row, LABEL_NAMES)
    return None if name is None else LabelCells(name, (row[name],), (), "wanted")


def read_labelled(row: Row, origin: Origin, reading: Reading) -> LabelledCompletion:
    """`{messages, label}` or `{prompt, completion, label}`; the label is that of the last answer."""
    label = cell(row, *LABEL_NAMES)
    origin.labels.append(label)
    if reading.coding is None:
        raise RowError("no_label", "what the values of the label mean is not known")
    meaning = reading.coding.meaning(label)
    if meaning == TIE:
        raise RowError("tie", f"{reading.coding.column} is {excerpt(label)}")
    if present(row, CONVERSATION_NAMES) is None:
        return labelled(origin, *_exchange(row, reading), meaning == 1)
    turns = _conversation(row, reading)
    return labelled(origin, turns[:-1], turns[-1:], meaning == 1)


def is_scored(row: Row, reading: Reading) -> bool:
    return present(row, SCORE_NAMES) is not None and (has_answer(row) or has_conversation(row, reading))


def read_scored(row: Row, origin: Origin, reading: Reading) -> ScoredCompletion:
    """`{prompt, response, score}` with the score in 0 … 1."""
    score = cell(row, *SCORE_NAMES)
    if present(row, CONVERSATION_NAMES) is None:
        return scored(origin, *_exchange(row, reading), score)
    turns = _conversation(row, reading)
    return scored(origin, turns[:-1], turns[-1:], score)


def is_helpsteer(row: Row, reading: Reading) -> bool:
    return has_answer(row) and all(soft_number(row.get(name)) is not None for name in HELPSTEER_NAMES)


def read_helpsteer(row: Row, origin: Origin, reading: Reading) -> ScoredCompletion:
    """HelpSteer and HelpSteer2: one answer a row with five ratings of 0 … 4; the score is helpfulness over 4."""
    helpfulness = number(cell(row, "helpfulness"), "helpfulness")
    return scored(origin, *_exchange(row, reading), None if helpfulness is None else helpfulness / 4)


def is_prompt(row: Row, reading: Reading) -> bool:
    return has_prompt(row) or has_conversation(row, reading)


def read_prompt(row: Row, origin: Origin, reading: Reading) -> Record:
    """A prompt alone, whatever else the row has: every verb that answers prompts reads them here.

    A conversation (turns, an HH transcript) loses the answers at its end. Of answers that repeat the whole conversation
    the prompt is what they share, as for pairs.
    """
    if all(is_whole_conversation(row.get(side), reading) for side in ("chosen", "rejected")):
        return Record(**origin.fields(), prompt=read_prompt_pair(row, origin, reading).prompt)
    talk = next((name for name in CONVERSATION_NAMES if is_turns(row.get(name), reading.tags)), None)
    if talk is None and present(row, PROMPT_NAMES) == "instruction":
        return Record(**origin.fields(), prompt=alpaca_prompt(row, reading))
    name = talk or present(row, PROMPT_NAMES)
    if name is None:
        raise RowError("missing_prompt", f"the columns are {', '.join(map(str, row)) or 'none'}")
    asked = row[name]
    if not is_turns(asked, reading.tags) and not is_transcript(asked):
        return Record(**origin.fields(), prompt=prompt_of(row, asked, "prompt", reading))
    turns = list(conversation(asked, "prompt", "user", reading))
    while turns and turns[-1].role == "assistant":
        turns.pop()
    return Record(**origin.fields(), prompt=checked_prompt(with_system(row.get("system"), tuple(turns))))


def is_ranked(row: Row, reading: Reading) -> bool:
    """A list of answers that are plain, so that only their order says which is better."""
    return _is_listed(row) and not says_which(row)


def says_which(row: Row) -> list[str]:
    """The columns beside a list of answers that may say which one is better; then nobody knows what its order says."""
    name = "output" if isinstance(row.get("output"), list) else present(row, ANSWER_LIST_NAMES)
    answers = row["output"] if name == "output" else _list_of_answers(row)
    others = ((str(key), value) for key, value in row.items() if key != name and value is not None)
    return [key for key, value in others if key in SAYS_WHICH or _may_say_which(key, value, answers)]


def _may_say_which(key: str, value: Any, answers: list[Any]) -> bool:
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", key)]
    if any(_MAY_SAY_WHICH.fullmatch(word) for word in words):
        return True
    if isinstance(value, str) and value in answers[1:]:
        return key not in PROMPT_NAMES
    place = soft_number(value)
    return _PLACE.fullmatch("_".join(words)) is not None and place is not None and 0 <= place <= len(answers)


def _is_listed(row: Row) -> bool:
    """A list of answers without scores of their own."""
    answers = row["output"] if "output" in row else _list_of_answers(row)
    return has_prompt(row) and isinstance(answers, list) and bool(answers) and not _is_rated_answer(answers[0])


def order_is_unclear(row: Row) -> list[str]:
    """`says_which` of a row that would be a ranking by the order of its answers if it had no other column."""
    plain = _is_listed(row) and not ("rewards" in row or "scores" in row)
    return says_which(row) if plain else []


def read_ranked(row: Row, origin: Origin, reading: Reading) -> Ranking:
    """`{instruction, input, output: [best, …, worst], history}` or `{prompt, completions: [best, …, worst]}`."""
    prompt = alpaca_prompt(row, reading) if "instruction" in row else _prompt(row, reading)
    return ranking(origin, prompt, _answers(row, reading))


def is_rated(row: Row, reading: Reading) -> bool:
    answers = _list_of_answers(row)
    return has_prompt(row) and bool(answers) and _is_rated_answer(answers[0])


def read_rated(row: Row, origin: Origin, reading: Reading) -> RatedAnswers:
    """UltraFeedback as rated: `{instruction, completions: [{response, overall_score, annotations, …}]}`."""
    kept: list[tuple[Messages, float, dict[str, float]]] = []
    for index, answer in enumerate(parsed_list(cell(row, *ANSWER_LIST_NAMES), "completions")):
        name = f"completions[{index}]"
        if not isinstance(answer, Mapping):
            raise RowError("not_an_object", f"{name} is {excerpt(answer)}")
        said = conversation(cell(answer, *ANSWER_NAMES), name, "assistant", reading)
        score = next((found for key in RATING_NAMES if (found := soft_number(answer.get(key))) is not None), None)
        if score is None or said[-1].is_empty:
            origin.notices.append("unrated_answer" if score is None else "empty_answer")
        else:
            kept.append((said, score, _aspects(answer.get("annotations"))))
    if len(kept) < 2:
        raise RowError("too_few_answers", f"{len(kept)} answers with a text and a score; a comparison needs 2")
    prompt, answers = without_prompt(origin, _prompt(row, reading), [said for said, _, _ in kept])
    return RatedAnswers(
        **origin.fields(),
        prompt=checked_prompt(prompt),
        completions=tuple(checked_completion(answer, "answer") for answer in answers),
        scores=tuple(score for _, score, _ in kept),
        dimensions=tuple(aspects for _, _, aspects in kept),
        highest=10.0 if any("overall_score" in answer for answer in _list_of_answers(row)) else None,
    )


def is_rollouts(row: Row, reading: Reading) -> bool:
    said = any(row.get(name) is not None for name in SAYS_WHICH)
    return _is_listed(row) and ("rewards" in row or "scores" in row) and not said


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


def _conversation(row: Row, reading: Reading) -> Messages:
    turns = read_turns(cell(row, *CONVERSATION_NAMES), "messages", reading.tags)
    return with_system(row.get("system"), turns)


def _prompt(row: Row, reading: Reading) -> Messages:
    return prompt_of(row, cell(row, *PROMPT_NAMES), "prompt", reading)


def _exchange(row: Row, reading: Reading) -> tuple[Messages, Messages]:
    """Prompt and answer; an instruction may bring its input."""
    prompt = alpaca_prompt(row, reading) if "instruction" in row and "prompt" not in row else _prompt(row, reading)
    return prompt, conversation(cell(row, *COMPLETION_NAMES), "completion", "assistant", reading)


def _answers(row: Row, reading: Reading) -> list[Messages]:
    values = parsed_list(cell(row, "output", *ANSWER_LIST_NAMES), "answers")
    # An empty list of turns is an answer that says nothing; the ranking leaves it out.
    return [() if value == [] else conversation(value, "answer", "assistant", reading) for value in values]


def _list_of_answers(row: Row) -> list[Any]:
    """The column that lists answers; CSV writes it as JSON text."""
    name = present(row, ANSWER_LIST_NAMES)
    try:
        return parsed_list(row[name], name) if name else []
    except RowError:
        return []


def _is_rated_answer(answer: Any) -> bool:
    if not isinstance(answer, Mapping):
        return False
    return present(answer, ANSWER_NAMES) is not None and present(answer, RATING_NAMES) is not None


def _aspects(annotations: Any) -> dict[str, float]:
    """UltraFeedback's ratings by aspect; one that is "N/A" is left out."""
    if not isinstance(annotations, Mapping):
        return {}
    ratings = {name: soft_number(note.get("Rating")) for name, note in annotations.items() if isinstance(note, Mapping)}
    return {name: rating for name, rating in ratings.items() if rating is not None}
