"""What a cell of a row says becomes text and turns of a conversation, or a `RowError` that says why it cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from palate.records import Message, Messages, Role

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool_calls": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "ipython": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
}
"""Names of speakers as datasets write them, and the role each one plays."""


class RowError(Exception):
    """A row cannot be used. Becomes `Dropped(id, reason, detail)`.

    Attributes:
        reason: a short stable name that counts are made by.
        detail: what was seen, for a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Tags:
    """How the turns of a list are written, where it is not in the usual way.

    Attributes:
        role: key that names the speaker; None for `role` or `from`.
        content: key that holds the text; None for `content`, `value` or `text`.
        roles: further names of speakers, beyond `ROLES`.
    """

    role: str | None = None
    content: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)


USUAL_TAGS = Tags()


def excerpt(value: Any, width: int = 60) -> str:
    """A value as a person may see it in a message: one short line, whatever line ends are in it."""
    try:
        line = " ".join(str(value)[: 2 * width].split())
    except RecursionError:
        line = f"a deeply nested {type(value).__name__}"
    return line if len(line) <= width else line[: width - 1] + "…"


def text(value: Any, name: str) -> str:
    """The cell `name` as text that can be written as UTF-8."""
    if not isinstance(value, str):
        seen = "null" if value is None else f"{type(value).__name__} {excerpt(value, 40)}"
        raise RowError("not_text", f"{name} is {seen}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError("not_text", f"{name} holds half a surrogate pair at character {error.start + 1}") from None
    return value


def parsed_list(value: Any, name: str) -> list[Any]:
    """The cell `name` as a list; a string that holds a JSON list (CSV files have no other way) is read as one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError("not_a_list", f"{name} is text that holds no JSON list") from None
    if not isinstance(value, list | tuple):
        raise RowError("not_a_list", f"{name} is {'null' if value is None else type(value).__name__}")
    return list(value)


def is_turn(value: Any, tags: Tags = USUAL_TAGS) -> bool:
    """Whether a value looks like one turn: an object with a speaker and a text (or tool calls)."""
    if not isinstance(value, Mapping):
        return False
    speaker = tags.role in value if tags.role else ("role" in value or "from" in value)
    return speaker and (_content_key(value, tags) is not None or "tool_calls" in value)


def is_turns(value: Any, tags: Tags = USUAL_TAGS) -> bool:
    """Whether a value looks like a list of turns. An empty list does not."""
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and is_turn(value[0], tags)


def speaker(turn: Mapping[str, Any], tags: Tags = USUAL_TAGS) -> str:
    """The speaker's name as the row writes it, in lower case."""
    value = turn.get(tags.role) if tags.role else turn.get("role", turn.get("from"))
    return value.strip().lower() if isinstance(value, str) else str(value)


def role_of(turn: Mapping[str, Any], tags: Tags = USUAL_TAGS) -> Role | None:
    """The speaker's role, None for a name nobody knows."""
    name = speaker(turn, tags)
    return tags.roles.get(name) or ROLES.get(name)


def read_turn(turn: Any, name: str, tags: Tags = USUAL_TAGS) -> Message:
    """One `{role, content}` or `{from, value}` object as a message; tool calls become the assistant's text."""
    if not is_turn(turn, tags):
        raise RowError("bad_turn", f"{name} has no role and content: {excerpt(turn)}")
    role = role_of(turn, tags)
    if role is None:
        raise RowError("unknown_role", f"{name} is spoken by {speaker(turn, tags)!r}")
    key = _content_key(turn, tags)
    content = _content(turn[key] if key is not None else None, name, bool(turn.get("tool_calls")))
    calls = turn.get("tool_calls")
    if calls:
        called = "\n".join(_tool_call(call, name) for call in parsed_list(calls, f"{name}.tool_calls"))
        content = f"{content}\n{called}" if content else called
    return Message(role, content)


def read_turns(value: Any, name: str, tags: Tags = USUAL_TAGS) -> Messages:
    """A list of turns as messages."""
    turns = parsed_list(value, name)
    return tuple(read_turn(turn, f"{name}[{number}]", tags) for number, turn in enumerate(turns))


def user(content: str) -> Messages:
    """One user turn."""
    return (Message("user", content),)


def assistant(content: str) -> Messages:
    """One assistant turn."""
    return (Message("assistant", content),)


def with_system(system: Any, messages: Messages) -> Messages:
    """The conversation with the system text in front, unless there is none or the conversation has its own."""
    if system is None or (isinstance(system, str) and not system.strip()):
        return messages
    if messages and messages[0].role == "system":
        return messages
    return (Message("system", text(system, "system")), *messages)


_TURN_START = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def is_transcript(value: Any) -> bool:
    """Whether a text is written as "\\n\\nHuman: … \\n\\nAssistant: …"."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def read_transcript(value: str, name: str) -> Messages:
    """An HH transcript as messages, in the order written; neighbours with the same speaker stay apart."""
    pieces = _TURN_START.split(value.strip())
    if pieces[0].strip() or len(pieces) < 3:
        raise RowError("not_a_transcript", f"{name} does not start with 'Human:': {excerpt(value)}")
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message("user" if who == "Human" else "assistant", said.strip()) for who, said in turns)


def merged(messages: Messages) -> Messages:
    """Neighbouring turns of the same speaker as one, a blank line between: chat templates want them to alternate."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role and message.role in ("user", "assistant"):
            before = joined.pop()
            message = Message(message.role, "\n\n".join(part for part in (before.content, message.content) if part))
        joined.append(message)
    return tuple(joined)


def _content_key(turn: Mapping[str, Any], tags: Tags) -> str | None:
    if tags.content:
        return tags.content if tags.content in turn else None
    return next((key for key in ("content", "value", "text") if key in turn), None)


def _content(value: Any, name: str, may_be_null: bool) -> str:
    """A turn's text: a string, or a list of `{type: text, text | value}` parts."""
    if value is None and may_be_null:
        return ""
    if not isinstance(value, list | tuple):
        return text(value, name)
    parts = []
    for part in value:
        if isinstance(part, str):
            parts.append(text(part, name))
        elif isinstance(part, Mapping) and part.get("type", "text") == "text":
            parts.append(text(part.get("text", part.get("value")), name))
        else:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise RowError("not_text", f"{name} has a part of type {kind!r}; palate reads text only")
    return "".join(parts)


def _tool_call(call: Any, name: str) -> str:
    """A tool call as the JSON text that models write: `{"name": …, "arguments": …}`."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowError("bad_turn", f"{name} has a tool call without a name: {excerpt(call)}")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        # Half-written arguments are what the model said; they stay text.
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    called = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False, default=str)
    return text(called, name)
