"""Formats that palate writes: a record as a row, and which parts of it the format cannot represent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from palate.data.formats.rows import RatedAnswers
from palate.data.turns.cells import excerpt
from palate.records import (
    Demonstration,
    LabelledCompletion,
    Message,
    Messages,
    PreferencePair,
    Ranking,
    Record,
    Rollouts,
    ScoredCompletion,
    as_turn,
    completions_of,
)


class UnsupportedRecordError(Exception):
    """The format cannot represent a record; the message says why. The record is listed and not written."""


def palate_row(record: Record) -> dict[str, Any]:
    """A record in palate's own format, which is read back as an equal record apart from id and source."""
    row: dict[str, Any] = {"prompt": turns(record.prompt)}
    if isinstance(record, PreferencePair):
        row |= {"chosen": turns(record.chosen), "rejected": turns(record.rejected)}
    elif isinstance(record, Demonstration | LabelledCompletion | ScoredCompletion):
        if not record.prompt and isinstance(record, Demonstration):
            row = {"text": record.completion[0].content}
        else:
            row["completion"] = turns(record.completion)
    elif isinstance(record, Ranking | Rollouts):
        row["completions"] = [turns(completion) for completion in record.completions]
    elif isinstance(record, RatedAnswers):
        row["completions"] = [
            {"response": turns(answer), "overall_score" if record.highest == 10 else "score": score}
            | ({"annotations": {name: {"Rating": rating} for name, rating in aspects.items()}} if aspects else {})
            for answer, score, aspects in zip(
                record.completions, record.scores, record.dimensions or ({},) * len(record.scores), strict=True
            )
        ]
    if isinstance(record, LabelledCompletion):
        row["label"] = record.desirable
    elif isinstance(record, ScoredCompletion):
        row["score"] = record.score
    elif isinstance(record, Rollouts):
        row["rewards"] = list(record.rewards)
    extra = {name: value for name, value in record.extra.items() if name not in row}
    return row | extra | _optional_columns(record)


def turns(messages: Messages, *, arguments_as_text: bool = False) -> list[dict[str, Any]]:
    """A conversation as `[{role, content, …}]`, with `train: false` in turns that are not trained."""
    return [
        as_turn(message, arguments_as_text=arguments_as_text) | ({} if message.trained else {"train": False})
        for message in messages
    ]


def _optional_columns(record: Record) -> dict[str, Any]:
    """Weight, tools, margin and dimensions, if a record has them."""
    columns: dict[str, Any] = {}
    if record.weight != 1:
        columns["weight"] = record.weight
    if record.tools is not None:
        columns["tools"] = record.tools
    if isinstance(record, PreferencePair):
        if record.margin is not None:
            columns["margin"] = record.margin
        if record.dimensions:
            columns["dimensions"] = {
                name: {"chosen": chosen, "rejected": rejected} for name, (chosen, rejected) in record.dimensions.items()
            }
    return columns


def _clashes(record: Record) -> list[str]:
    """Unread columns that are left out because the row uses their names."""
    row = palate_row(record)
    return [f"column {name!r}" for name, value in record.extra.items() if row.get(name) is not value]


@dataclass(frozen=True, slots=True)
class Target:
    """A format to write.

    Attributes:
        name: as in `palate data convert --to`.
        shape: an example row.
        kinds: the kinds of records that it can represent; others are converted into the first possible one.
        row: a record as a row; raises `UnsupportedRecordError`.
        loses: names of the parts of a record that the row leaves out.
    """

    name: str
    shape: str
    kinds: tuple[type[Record], ...]
    row: Callable[[Record], dict[str, Any]] = palate_row
    loses: Callable[[Record], list[str]] = _clashes


def _openai_row(record: Record) -> dict[str, Any]:
    if not isinstance(record, PreferencePair):
        raise UnsupportedRecordError("only pairs")
    for name, answer in (("chosen", record.chosen), ("rejected", record.rejected)):
        if any(message.role != "assistant" for message in answer):
            raise UnsupportedRecordError(f"{name} has turns that are not the assistant's")
    for message in (*record.prompt, *record.chosen, *record.rejected):
        _check_turn(message)
        if any(call.id is None for call in message.tool_calls):
            raise UnsupportedRecordError("a tool call has no id")
    request: dict[str, Any] = {"messages": turns(record.prompt, arguments_as_text=True)}
    if record.tools is not None:
        try:
            request["tools"] = json.loads(record.tools)
        except ValueError:
            raise UnsupportedRecordError(f"its tools are not JSON: {excerpt(record.tools, 30)}") from None
    return {
        "input": request,
        "preferred_output": turns(record.chosen, arguments_as_text=True),
        "non_preferred_output": turns(record.rejected, arguments_as_text=True),
    }


def _check_turn(message: Message) -> None:
    if message.reasoning_content:
        raise UnsupportedRecordError("a turn has reasoning")
    if not message.trained:
        raise UnsupportedRecordError("a turn is marked as not trained")


def _openai_loses(record: Record) -> list[str]:
    optional = (name for name in _optional_columns(record) if name != "tools")
    return [*(f"column {name!r}" for name in record.extra), *optional]


_SPEAKERS = {"user": "human", "assistant": "gpt", "tool": "observation"}


def _llama_factory_row(record: Record) -> dict[str, Any]:
    row = palate_row(record)
    system, prompt = "", record.prompt
    if prompt and prompt[0].role == "system":
        system, prompt = prompt[0].content, prompt[1:]
    if not prompt:
        raise UnsupportedRecordError("it has no prompt")
    if isinstance(record, PreferencePair):
        del row["prompt"]
        row["conversations"] = _sharegpt_turns(prompt, answered=False)
        row["chosen"] = _one_turn(record.chosen, "chosen")
        row["rejected"] = _one_turn(record.rejected, "rejected")
    elif isinstance(record, Demonstration | LabelledCompletion):
        del row["prompt"], row["completion"]
        row["conversations"] = _sharegpt_turns(prompt + record.completion, answered=True)
    else:
        raise UnsupportedRecordError("LLaMA-Factory trains on pairs, demonstrations and labelled completions")
    if system:
        row["system"] = system
    return row


def _llama_factory_loses(record: Record) -> list[str]:
    lost = _clashes(record)
    if isinstance(record, Demonstration) and any(message.role == "assistant" for message in record.prompt):
        lost.append("answers of the prompt that are not to be imitated")
    messages = (*record.prompt, *(turn for answer in completions_of(record) for turn in answer))
    if any(turn.name or turn.tool_call_id or any(call.id for call in turn.tool_calls) for turn in messages):
        lost.append("names of speakers and ids of tool calls")
    return lost


def _sharegpt_turns(messages: Messages, *, answered: bool) -> list[dict[str, str]]:
    """ShareGPT turns. LLaMA-Factory needs user or tool turns to alternate with assistant turns."""
    for index, message in enumerate(messages):
        if (message.role == "assistant") != (index % 2 == 1):
            raise UnsupportedRecordError(f"turn {index + 1} ({message.role}) breaks the change of speakers")
    if (len(messages) % 2 == 0) != answered:
        raise UnsupportedRecordError(f"{len(messages)} turns do not end where LLaMA-Factory needs it")
    return [sharegpt_turn(message) for message in messages]


def sharegpt_turn(message: Message) -> dict[str, str]:
    """`{from, value}`; tool calls are a `function_call` turn whose text is the call or a list of calls."""
    _check_turn(message)
    if not message.tool_calls:
        return {"from": _SPEAKERS[message.role], "value": message.content}
    if message.content.strip():
        raise UnsupportedRecordError("a turn has text besides its tool calls")
    calls = [{"name": call.name, "arguments": call.value} for call in message.tool_calls]
    return {"from": "function_call", "value": json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)}


def _one_turn(answer: Messages, name: str) -> dict[str, str]:
    if len(answer) != 1:
        raise UnsupportedRecordError(f"{name} has {len(answer)} turns; the format allows one")
    return sharegpt_turn(answer[0])


_ALL = (PreferencePair, Demonstration, LabelledCompletion, ScoredCompletion, Ranking, RatedAnswers, Rollouts, Record)

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("palate", "{prompt, chosen, rejected, …} in messages", _ALL),
        Target(
            "trl",
            "{prompt, chosen, rejected}, {prompt, completion, label} or {prompt, completion}",
            (PreferencePair, LabelledCompletion, Demonstration),
        ),
        Target(
            "llamafactory",
            "{conversations, chosen, rejected, system} with its dataset_info.json",
            (PreferencePair, LabelledCompletion, Demonstration),
            _llama_factory_row,
            _llama_factory_loses,
        ),
        Target(
            "openai",
            "{input: {messages, tools}, preferred_output, non_preferred_output}",
            (PreferencePair,),
            _openai_row,
            _openai_loses,
        ),
        Target("kto", "{prompt, completion, label}", (LabelledCompletion,)),
        Target("ranked", "{prompt, completions: [best, …, worst]}", (Ranking,)),
    )
}


def dataset_info_entry(file_name: str, kind: type[Record], columns: Iterable[str]) -> dict[str, Any]:
    """LLaMA-Factory's entry for a file of the `llamafactory` target."""
    present = set(columns)
    mapped = {"messages": "conversations"}
    if kind is PreferencePair:
        mapped |= {"chosen": "chosen", "rejected": "rejected"}
    if kind is LabelledCompletion:
        mapped["kto_tag"] = "label"
    mapped |= {name: name for name in ("system", "tools") if name in present}
    ranking = {"ranking": True} if kind is PreferencePair else {}
    return {"file_name": file_name, "formatting": "sharegpt", **ranking, "columns": mapped}
