"""Formats whose rows compare two answers, each with what it looks like and how it becomes a pair."""

# ruff: noqa: ARG001  (all of one table's functions have one signature, whether they use it or not)

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from palate.data.formats.labels import TIE, LabelCells
from palate.data.formats.rows import (
    PROMPT_NAMES,
    Origin,
    Reading,
    Row,
    cell,
    checked_prompt,
    conversation,
    is_whole_conversation,
    number,
    pair,
    present,
    prompt_of,
    soft_number,
)
from palate.data.turns.messages import (
    RowError,
    assistant,
    excerpt,
    is_transcript,
    is_turn,
    is_turns,
    merged,
    parsed_list,
    read_transcript,
    read_turns,
    role_of,
    text,
    with_system,
)
from palate.records import Messages, PreferencePair

SCORE_NAMES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("rating_chosen", "rating_rejected"),
)
PAIR_COLUMNS = ("chosen", "rejected", "margin", "dimensions", *(name for names in SCORE_NAMES for name in names))
CONVERSATION_NAMES = ("conversations", "messages")
SAFETY_LABELS = ("better_response_id", "safer_response_id")
REJECTED_NAMES = ("rejected_response", "rejected_messages")
PROMPT_TURN_NAMES = (*CONVERSATION_NAMES, "trajectory")


def is_prompt_pair(row: Row, reading: Reading) -> bool:
    if present(row, PROMPT_NAMES) is None or "chosen" not in row or "rejected" not in row:
        return False
    return not isinstance(row["chosen"], int | float)  # the place of an answer in a list, or of two answers


def read_prompt_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{prompt, chosen, rejected}`: texts, turns, or answers that repeat the whole conversation."""
    name = present(row, PROMPT_NAMES)
    if name is None:
        raise RowError("missing_key", "has no 'prompt'")
    chosen, rejected = cell(row, "chosen"), cell(row, "rejected")
    whole = is_whole_conversation(chosen, reading) and is_whole_conversation(rejected, reading)
    prompt = () if whole and not row[name] else prompt_of(row, row[name], "prompt", reading)
    return _graded(row, origin, prompt, *_answers(chosen, rejected, reading))


def is_transcript_pair(row: Row, reading: Reading) -> bool:
    return is_transcript(row.get("chosen")) and is_transcript(row.get("rejected"))


def read_transcript_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{chosen, rejected}` as whole HH transcripts; they must be equal up to the last `Assistant:`."""
    chosen = read_transcript(text(cell(row, "chosen"), "chosen"), "chosen")
    rejected = read_transcript(text(cell(row, "rejected"), "rejected"), "rejected")
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1].role != "assistant":
            raise RowError("no_assistant_turn", f"{name} does not end with 'Assistant:'")
    if chosen[:-1] != rejected[:-1]:
        raise RowError("diverges", f"the two part before the last turn ({len(chosen)} and {len(rejected)} turns)")
    prompt = with_system(row.get("system"), merged(chosen[:-1]))
    return _graded(row, origin, prompt, chosen[-1:], rejected[-1:])


def is_transcript_prompt_pair(row: Row, reading: Reading) -> bool:
    prompt = row.get("prompt")
    return is_transcript(prompt) and str(prompt).rstrip().endswith("Assistant:") and is_prompt_pair(row, reading)


def read_transcript_prompt_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{prompt, response, chosen, rejected}` with the prompt as an HH transcript that ends with `Assistant:`."""
    turns = read_transcript(text(cell(row, "prompt"), "prompt"), "prompt")
    if turns[-1].role != "assistant" or turns[-1].content:
        raise RowError("not_a_transcript", f"prompt does not end with 'Assistant:': {excerpt(turns[-1].content)}")
    chosen, rejected = (assistant(text(cell(row, name), name).strip()) for name in ("chosen", "rejected"))
    return _graded(row, origin, with_system(row.get("system"), merged(turns[:-1])), chosen, rejected)


def is_conversation_pair(row: Row, reading: Reading) -> bool:
    name = present(row, PROMPT_TURN_NAMES)
    if name is None or "chosen" not in row or "rejected" not in row or not is_turns(row[name], reading.tags):
        return False
    # Some sets repeat the chosen conversation in `messages`; then the prompt is elsewhere.
    answered = role_of(row[name][-1], reading.tags) == "assistant" if is_turn(row[name][-1], reading.tags) else False
    return not answered and not is_whole_conversation(row["chosen"], reading)


def read_conversation_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{conversations: [{from, value}, …], chosen, rejected}`, several turns and tool calls included."""
    turns = read_turns(cell(row, *PROMPT_TURN_NAMES), "conversations", reading.tags)
    prompt = checked_prompt(with_system(row.get("system"), turns))
    return _graded(row, origin, prompt, *_answers(cell(row, "chosen"), cell(row, "rejected"), reading))


def is_implicit_pair(row: Row, reading: Reading) -> bool:
    return all(is_whole_conversation(row.get(name), reading) for name in ("chosen", "rejected"))


def read_implicit_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{chosen, rejected}` as whole conversations; what they share is the prompt."""
    return _graded(row, origin, (), *_answers(cell(row, "chosen"), cell(row, "rejected"), reading))


def is_messages_pair(row: Row, reading: Reading) -> bool:
    return "chosen_messages" in row and "rejected_messages" in row


def read_messages_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{chosen_messages, rejected_messages}` with contents in parts and a `loss_weight` per turn."""
    sides = [
        read_turns(cell(row, f"{name}_messages"), f"{name}_messages", reading.tags) for name in ("chosen", "rejected")
    ]
    return _graded(row, origin, (), sides[0], sides[1])


def is_rejected_response(row: Row, reading: Reading) -> bool:
    if present(row, REJECTED_NAMES) is None or "chosen" in row:
        return False
    answered = any(is_turns(row.get(name), reading.tags) for name in CONVERSATION_NAMES)
    return answered or (present(row, PROMPT_NAMES) is not None and "response" in row)


def read_rejected_response(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{messages, rejected_response}` or `{messages, rejected_messages}` of ms-swift: the last answer is chosen."""
    rejected = cell(row, *REJECTED_NAMES)
    if present(row, CONVERSATION_NAMES) is None:
        prompt = alpaca_prompt({**row, "instruction": cell(row, *PROMPT_NAMES), "input": None}, reading)
        return _graded(row, origin, prompt, *_answers(cell(row, "response"), rejected, reading))
    turns = read_turns(cell(row, *CONVERSATION_NAMES), "messages", reading.tags)
    if is_whole_conversation(rejected, reading):
        return _graded(row, origin, (), turns, read_turns(rejected, "rejected_messages", reading.tags))
    if not turns or turns[-1].role != "assistant":
        raise RowError("no_assistant_turn", "messages do not end with the answer that is chosen")
    worst = conversation(rejected, "rejected", "assistant", reading)
    return _graded(row, origin, with_system(row.get("system"), turns[:-1]), turns[-1:], worst)


def is_openai_pair(row: Row, reading: Reading) -> bool:
    return "preferred_output" in row and "non_preferred_output" in row and "input" in row


def read_openai_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{input: {messages, tools}, preferred_output, non_preferred_output}`, OpenAI's preference fine-tuning."""
    asked = cell(row, "input")
    if isinstance(asked, str):  # a Parquet or CSV file holds the object as JSON text
        with suppress(ValueError, RecursionError):
            asked = json.loads(asked)
    if not isinstance(asked, Mapping):
        raise RowError("not_an_object", f"input is {excerpt(asked)}")
    prompt = checked_prompt(read_turns(cell(asked, "messages"), "input.messages", reading.tags))
    chosen, rejected = cell(row, "preferred_output"), cell(row, "non_preferred_output")
    if asked.get("tools"):
        origin = Origin(origin.id, origin.source, {**row, "tools": asked["tools"]}, origin.extra)
    return _graded(row, origin, prompt, *_answers(chosen, rejected, reading))


def is_alpaca_pair(row: Row, reading: Reading) -> bool:
    return "instruction" in row and "chosen" in row and "rejected" in row


def read_alpaca_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{instruction, input, chosen, rejected}` with `history` and `system` where a row has them."""
    return _graded(
        row, origin, alpaca_prompt(row, reading), *_answers(cell(row, "chosen"), cell(row, "rejected"), reading)
    )


def alpaca_prompt(row: Row, reading: Reading) -> Messages:
    """Instruction and input, a line between; earlier exchanges of `history` before them."""
    parts = [text(cell(row, "instruction"), "instruction")]
    if row.get("input") is not None:
        parts.append(text(row["input"], "input"))
    turns: list[dict[str, Any]] = []
    for exchange in parsed_list(row.get("history") or [], "history"):
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise RowError("bad_turn", f"history must hold [question, answer] pairs: {excerpt(exchange)}")
        turns += [{"role": "user", "content": exchange[0]}, {"role": "assistant", "content": exchange[1]}]
    turns.append({"role": "user", "content": "\n".join(part for part in parts if part)})
    return checked_prompt(with_system(row.get("system"), read_turns(turns, "history")))


def is_safety_pair(row: Row, reading: Reading) -> bool:
    labels = present(row, SAFETY_LABELS) is not None
    return "prompt" in row and "response_0" in row and "response_1" in row and labels


def safety_cells(row: Row, reading: Reading) -> LabelCells:
    """The numbers of the more helpful and of the safer answer."""
    return LabelCells(
        " and ".join(SAFETY_LABELS),
        tuple(row[name] for name in SAFETY_LABELS if name in row),
        ("response_0", "response_1"),
        "numbered",
    )


def read_safety_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """PKU-SafeRLHF: two responses, the more helpful and the safer one named; `reading.prefer` says which counts."""
    values, coding = [row.get(name) for name in SAFETY_LABELS], reading.coding
    origin.labels.extend(safety_cells(row, reading).values)
    better, safer = (coding.meaning(value) if coding and coding.says(value) else None for value in values)
    wanted = {"better": (better,), "safer": (safer,), "both": (better, safer)}[reading.prefer]
    if None in wanted:
        raise RowError("no_label", f"better_response_id is {values[0]}, safer_response_id is {values[1]}")
    if TIE in wanted:
        raise RowError("tie", f"better_response_id is {values[0]}, safer_response_id is {values[1]}")
    if len(set(wanted)) > 1:
        raise RowError("labels_disagree", f"response_{better} is more helpful, response_{safer} is safer")
    best = int(wanted[0] or 0)
    origin.notices.append("second_won" if best else "first_won")
    dimensions = {
        name: (1.0, 0.0) if label == best else (0.0, 1.0)
        for name, label in (("helpfulness", better), ("safety", safer))
        if label is not None
    }
    chosen, rejected = _answers(cell(row, f"response_{best}"), cell(row, f"response_{1 - best}"), reading)
    prompt = prompt_of(row, cell(row, "prompt"), "prompt", reading)
    return pair(origin, prompt, chosen, rejected, dimensions=dimensions)


def is_stack_exchange(row: Row, reading: Reading) -> bool:
    return "question" in row and "response_j" in row and "response_k" in row


def read_stack_exchange(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{question, response_j, response_k}`: j has more votes than k."""
    prompt = prompt_of(row, cell(row, "question"), "prompt", reading)
    return _graded(row, origin, prompt, *_answers(cell(row, "response_j"), cell(row, "response_k"), reading))


def _answers(chosen: Any, rejected: Any, reading: Reading) -> tuple[Messages, Messages]:
    return (
        conversation(chosen, "chosen", "assistant", reading),
        conversation(rejected, "rejected", "assistant", reading),
    )


def _graded(row: Row, origin: Origin, prompt: Messages, chosen: Messages, rejected: Messages) -> PreferencePair:
    """A pair with the margin and the dimensions that its row states."""
    return pair(origin, prompt, chosen, rejected, margin=stated_margin(row), dimensions=stated_dimensions(row))


def stated_margin(row: Row) -> float | None:
    """By how much the row says that chosen is better: its margin, or the difference of two scores."""
    if row.get("margin") is not None:
        return number(row["margin"], "margin")
    metadata = row.get("metadata")
    for place in (row, metadata) if isinstance(metadata, Mapping) else (row,):
        for best, worst in SCORE_NAMES:
            high, low = soft_number(place.get(best)), soft_number(place.get(worst))
            if high is not None and low is not None:
                return high - low
    return None


def stated_dimensions(row: Row) -> dict[str, tuple[float, float]] | None:
    """`{helpfulness: {chosen: 5, rejected: 3}, …}`, or two numbers each; a dimension with a null is left out."""
    given = row.get("dimensions")
    if isinstance(given, str):  # CSV has no other way to write them
        with suppress(ValueError, RecursionError):
            given = json.loads(given)
    if given is None or given == "":
        return None
    if not isinstance(given, Mapping):
        raise RowError("bad_dimensions", f"dimensions is {excerpt(given)}")
    found: dict[str, tuple[float, float]] = {}
    for name, scores in given.items():
        if scores is None:
            continue
        sides = (scores.get("chosen"), scores.get("rejected")) if isinstance(scores, Mapping) else scores
        if not isinstance(sides, list | tuple) or len(sides) != 2:
            raise RowError("bad_dimensions", f"dimensions.{name} is {excerpt(scores)}")
        high, low = (number(side, f"dimensions.{name}") for side in sides)
        if high is not None and low is not None:
            found[str(name)] = (high, low)
    return found or None
