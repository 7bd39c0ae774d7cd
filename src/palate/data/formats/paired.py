"""Formats whose rows have a chosen and a rejected answer: how each is recognised and read."""

# ruff: noqa: ARG001  (all functions in the table of formats have the same signature)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from palate.data.formats.labels import TIE, LabelCells
from palate.data.formats.prompts import alpaca_prompt, prompt_of
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
    number_or_none,
    pair,
    present,
)
from palate.data.turns.cells import RowError, excerpt, literal, text
from palate.data.turns.messages import (
    assistant,
    is_transcript,
    is_turn,
    is_turns,
    merged,
    read_transcript,
    read_turns,
    role_of,
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
GRADE_COLUMNS = ("margin", "dimensions", *(name for names in SCORE_NAMES for name in names))
PAIR_COLUMNS = ("chosen", "rejected", *GRADE_COLUMNS)
CONVERSATION_NAMES = ("conversations", "messages")
SAFETY_LABELS = ("better_response_id", "safer_response_id")
REJECTED_NAMES = ("rejected_response", "rejected_messages")
PROMPT_TURN_NAMES = (*CONVERSATION_NAMES, "trajectory")


def is_prompt_pair(row: Row, reading: Reading) -> bool:
    if present(row, PROMPT_NAMES) is None or "chosen" not in row or "rejected" not in row:
        return False
    return not isinstance(row["chosen"], int | float)  # the index of the better answer


def read_prompt_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{prompt, chosen, rejected}`: texts, turns, or answers that repeat the conversation."""
    name = present(row, PROMPT_NAMES)
    if name is None:
        raise RowError("missing_key", "has no 'prompt'")
    whole = all(is_whole_conversation(cell(row, side), reading) for side in ("chosen", "rejected"))
    prompt = () if whole and not row[name] else prompt_of(row, row[name], reading)
    return _pair(row, origin, prompt, reading)


def is_transcript_pair(row: Row, reading: Reading) -> bool:
    return is_transcript(row.get("chosen")) and is_transcript(row.get("rejected"))


def read_transcript_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{chosen, rejected}` as HH transcripts, which must be equal up to the last `Assistant:`."""
    chosen = read_transcript(text(cell(row, "chosen"), "chosen"), "chosen")
    rejected = read_transcript(text(cell(row, "rejected"), "rejected"), "rejected")
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1].role != "assistant":
            raise RowError("no_assistant_turn", f"{name} does not end with 'Assistant:'")
    if chosen[:-1] != rejected[:-1]:
        raise RowError(
            "diverges", f"chosen and rejected differ before the last turn ({len(chosen)} and {len(rejected)} turns)"
        )
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
    # Some datasets repeat the chosen conversation in `messages`; then it is not the prompt.
    answered = role_of(row[name][-1], reading.tags) == "assistant" if is_turn(row[name][-1], reading.tags) else False
    return not answered and not is_whole_conversation(row["chosen"], reading)


def read_conversation_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{conversations: [{from, value}, …], chosen, rejected}`, also with several turns and tool calls."""
    turns = read_turns(cell(row, *PROMPT_TURN_NAMES), "conversations", reading.tags)
    return _pair(row, origin, checked_prompt(with_system(row.get("system"), turns)), reading)


def is_implicit_pair(row: Row, reading: Reading) -> bool:
    return all(is_whole_conversation(row.get(name), reading) for name in ("chosen", "rejected"))


def read_implicit_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{chosen, rejected}` as whole conversations; the turns that both share are the prompt."""
    return _pair(row, origin, (), reading)


def read_messages_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{chosen_messages, rejected_messages}` as whole conversations, with a `loss_weight` for each turn."""
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
    if present(row, CONVERSATION_NAMES) is None:
        prompt = alpaca_prompt({**row, "instruction": cell(row, *PROMPT_NAMES), "input": None})
        return _pair(row, origin, prompt, reading, "response", *REJECTED_NAMES)
    rejected = cell(row, *REJECTED_NAMES)
    turns = read_turns(cell(row, *CONVERSATION_NAMES), "messages", reading.tags)
    if is_whole_conversation(rejected, reading):
        return _graded(row, origin, (), turns, read_turns(rejected, "rejected_messages", reading.tags))
    if not turns or turns[-1].role != "assistant":
        raise RowError("no_assistant_turn", "messages do not end with the answer that is chosen")
    worst = conversation(rejected, "rejected", "assistant", reading)
    return _graded(row, origin, with_system(row.get("system"), turns[:-1]), turns[-1:], worst)


def read_openai_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{input: {messages, tools}, preferred_output, non_preferred_output}`, OpenAI's preference fine-tuning."""
    given = cell(row, "input")
    request = literal(given) if isinstance(given, str) else given  # Parquet and CSV files may have it as JSON text
    if not isinstance(request, Mapping):
        raise RowError("not_an_object", f"input is {excerpt(given)}")
    prompt = checked_prompt(read_turns(cell(request, "messages"), "input.messages", reading.tags))
    if request.get("tools"):
        origin = replace(origin, row={**row, "tools": request["tools"]})  # which keeps the list of notices
    return _pair(row, origin, prompt, reading, "preferred_output", "non_preferred_output")


def is_alpaca_pair(row: Row, reading: Reading) -> bool:
    return "instruction" in row and "chosen" in row and "rejected" in row


def read_alpaca_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{instruction, input, chosen, rejected}`, also with `history` and `system`."""
    return _pair(row, origin, alpaca_prompt(row), reading)


def safety_cells(row: Row, reading: Reading) -> LabelCells:
    """The numbers of the more helpful and of the safer answer."""
    return LabelCells(
        " and ".join(SAFETY_LABELS),
        tuple(row[name] for name in SAFETY_LABELS if name in row),
        ("response_0", "response_1"),
        "numbered",
    )


def read_safety_pair(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """PKU-SafeRLHF: two responses with a helpfulness and a safety label; `prefer` selects the label."""
    values, coding = [row.get(name) for name in SAFETY_LABELS], reading.coding
    origin.labels.extend(safety_cells(row, reading).values)
    better, safer = (coding.meaning(value) if coding and coding.has_meaning(value) else None for value in values)
    deciding = {"better": (better,), "safer": (safer,), "both": (better, safer)}[reading.request.prefer]
    if None in deciding:
        raise RowError("no_label", f"better_response_id is {values[0]}, safer_response_id is {values[1]}")
    if TIE in deciding:
        raise RowError("tie", f"better_response_id is {values[0]}, safer_response_id is {values[1]}")
    if len(set(deciding)) > 1:
        raise RowError("labels_disagree", f"response_{better} is more helpful, response_{safer} is safer")
    best = int(deciding[0] or 0)
    origin.notices.append("second_won" if best else "first_won")
    dimensions = {
        name: (1.0, 0.0) if label == best else (0.0, 1.0)
        for name, label in (("helpfulness", better), ("safety", safer))
        if label is not None
    }
    chosen, rejected = _answers(cell(row, f"response_{best}"), cell(row, f"response_{1 - best}"), reading)
    prompt = prompt_of(row, cell(row, "prompt"), reading)
    return pair(origin, prompt, chosen, rejected, dimensions=dimensions)


def read_stack_exchange(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """`{question, response_j, response_k}`: j has more votes than k."""
    return _pair(row, origin, prompt_of(row, cell(row, "question"), reading), reading, "response_j", "response_k")


def _answers(chosen: Any, rejected: Any, reading: Reading) -> tuple[Messages, Messages]:
    return (
        conversation(chosen, "chosen", "assistant", reading),
        conversation(rejected, "rejected", "assistant", reading),
    )


def _pair(
    row: Row, origin: Origin, prompt: Messages, reading: Reading, chosen: str = "chosen", *rejected: str
) -> PreferencePair:
    """A pair of the answers in two columns; for rejected the first of several names that the row has."""
    answers = _answers(cell(row, chosen), cell(row, *(rejected or ("rejected",))), reading)
    return _graded(row, origin, prompt, *answers)


def _graded(row: Row, origin: Origin, prompt: Messages, chosen: Messages, rejected: Messages) -> PreferencePair:
    """A pair with the margin and the dimensions of its row."""
    return pair(origin, prompt, chosen, rejected, margin=stated_margin(row), dimensions=stated_dimensions(row))


def stated_margin(row: Row) -> float | None:
    """The row's `margin`, or the difference of its two scores, also those in `metadata`; None if it has neither."""
    if row.get("margin") is not None:
        return number(row["margin"], "margin")
    metadata = row.get("metadata")
    for columns in (row, metadata) if isinstance(metadata, Mapping) else (row,):
        for best, worst in SCORE_NAMES:
            high, low = number_or_none(columns.get(best)), number_or_none(columns.get(worst))
            if high is not None and low is not None:
                return high - low
    return None


def stated_dimensions(row: Row) -> dict[str, tuple[float, float]] | None:
    """`{helpfulness: {chosen: 5, rejected: 3}, …}` or `{helpfulness: [5, 3], …}`, without dimensions that are null."""
    given = row.get("dimensions")
    if given in (None, "", "null"):
        return None
    dimensions = literal(given) if isinstance(given, str) else given  # in CSV files they are JSON text
    if not isinstance(dimensions, Mapping):
        raise RowError("bad_dimensions", f"dimensions is {excerpt(given)}")
    found: dict[str, tuple[float, float]] = {}
    for name, scores in dimensions.items():
        if scores is None:
            continue
        sides = (scores.get("chosen"), scores.get("rejected")) if isinstance(scores, Mapping) else scores
        if not isinstance(sides, list | tuple) or len(sides) != 2:
            raise RowError("bad_dimensions", f"dimensions.{name} is {excerpt(scores)}")
        high, low = (number(side, f"dimensions.{name}") for side in sides)
        if high is not None and low is not None:
            found[str(name)] = (high, low)
    return found or None
