"""Reads turns of a conversation and HH transcripts as messages; a turn that cannot be read raises `RowError`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palate.data.turns.cells import RowError, excerpt, parsed_list, text
from palate.data.turns.tool_calls import calls_of_text, read_call, read_calls
from palate.records import Message, Messages, Role, ToolCall

_SPEAKERS: Mapping[Role, str] = {
    "system": "system developer",
    "user": "user human prompter",
    "assistant": "assistant gpt chatgpt bot model bing bard function_call tool_call tool_calls",
    "tool": "tool observation function ipython tool_response tool_result",
}
ROLES: Mapping[str, Role] = {name: role for role, names in _SPEAKERS.items() for name in names.split()}
"""Names of speakers in datasets, and their roles."""

CALL_SPEAKERS = frozenset({"function_call", "tool_call", "tool_calls"})
"""Speakers whose text is a tool call of the assistant."""

CONTENT_KEYS = ("content", "value", "text")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
FLAG_KEYS = ("loss_weight", "train", "training", "weight", "loss")
"""Flags of turns that turn training on or off, in LLaMA-Factory, axolotl, OpenAI and ms-swift."""

_KNOWN_KEYS = frozenset(
    {"role", "from", *REASONING_KEYS, *FLAG_KEYS, "tool_calls", "function_call", "name", "tool_call_id"}
)
# Keys that a template renders or that change which text is trained, and that `Message` cannot represent.
_UNSUPPORTED_KEYS = frozenset(
    {
        *("image", "images", "video", "videos", "audio", "audios", "files", "documents", "citations"),
        *("refusal", "channel", "prefix", "partial", "tools", "builtin_tools", "tool_plan", "tool_results"),
        *("reasoning_details", "thinking_blocks", "train_detail", "training_detail", "loss_scale"),
    }
)
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_REASONING_PARTS = frozenset({"reasoning", "thinking"})
_CALL_PARTS = frozenset({"tool_call", "tool_use", "function_call"})


@dataclass(frozen=True, slots=True)
class Tags:
    """How turns are written, if not in the usual way.

    Attributes:
        role: key of the speaker; None for `role` or `from`.
        content: key of the text; None for `content`, `value` or `text`.
        roles: further names of speakers besides `ROLES`.
        callers: further names of speakers besides `CALL_SPEAKERS`.
        unread: counts the keys of turns that are not read, by name; None to not count them.
    """

    role: str | None = None
    content: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    callers: frozenset[str] = frozenset()
    unread: dict[str, int] | None = field(default=None, compare=False)


USUAL_TAGS = Tags()


def is_turn(value: Any, tags: Tags = USUAL_TAGS) -> bool:
    """Whether a value is one turn: an object with a speaker and a text (or tool calls)."""
    if not isinstance(value, Mapping):
        return False
    has_speaker = tags.role in value if tags.role else ("role" in value or "from" in value)
    return has_speaker and (_content_key(value, tags) is not None or "tool_calls" in value or "function_call" in value)


def is_turns(value: Any, tags: Tags = USUAL_TAGS) -> bool:
    """Whether a value is a list that begins with a turn."""
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and is_turn(value[0], tags)


def speaker(turn: Mapping[str, Any], tags: Tags = USUAL_TAGS) -> str:
    """The name of a turn's speaker in lower case."""
    value = turn.get(tags.role) if tags.role else turn.get("role", turn.get("from"))
    return value.strip().lower() if isinstance(value, str) else str(value)


def role_of(turn: Mapping[str, Any], tags: Tags = USUAL_TAGS) -> Role | None:
    """The role of a turn's speaker, None for an unknown name."""
    name = speaker(turn, tags)
    return tags.roles.get(name) or ROLES.get(name)


def read_turn(turn: Any, name: str, tags: Tags = USUAL_TAGS) -> Message:
    """One `{role, content}` or `{from, value}` object as a message, with its tool calls, reasoning and flags.

    Raises:
        RowError: it is not a turn, or has content that a message cannot represent. Nothing is left out silently.
    """
    if not is_turn(turn, tags):
        raise RowError("bad_turn", f"{name} has no role and content: {excerpt(turn)}")
    role = role_of(turn, tags)
    if role is None:
        raise RowError("unknown_role", f"{name} is spoken by {speaker(turn, tags)!r}")
    key = _content_key(turn, tags)
    content = turn[key] if key is not None else None
    if len(turn) == 2 and isinstance(content, str) and not _is_call(turn, tags):
        return Message(role, text(content, name))
    _check_keys(turn, name, tags, (key, tags.role))
    if _is_call(turn, tags):
        parts = _Parts(calls=calls_of_text(content, name))
    else:
        parts = _parts(content, name, may_be_null=bool(turn.get("tool_calls") or turn.get("function_call")))
    for calls in ("tool_calls", "function_call"):
        if turn.get(calls):
            parts.calls += read_calls(turn[calls], f"{name}.{calls}")
    reasoning = _reasoning(turn, parts, name)
    if role != "assistant" and (parts.calls or reasoning):
        raise RowError(
            "bad_turn", f"{name} is spoken by {role} and has tool calls or reasoning, which only answers have"
        )
    return Message(
        role,
        "".join(parts.texts),
        parts.calls,
        reasoning,
        _label(turn.get("name"), f"{name}.name"),
        _label(turn.get("tool_call_id"), f"{name}.tool_call_id"),
        _trained(turn, role, name),
    )


def read_turns(value: Any, name: str, tags: Tags = USUAL_TAGS) -> Messages:
    """A list of turns as messages. A `function_call` turn is merged into the answer before it."""
    turns: list[Message] = []
    for number, turn in enumerate(parsed_list(value, name)):
        message = read_turn(turn, f"{name}[{number}]", tags)
        before = turns[-1] if turns else None
        if before is not None and before.role == message.role == "assistant" and _is_call(turn, tags):
            if before.trained != message.trained:
                raise RowError(
                    "turn_weight", f"{name}[{number}] is a tool call of the turn before it, with another flag"
                )
            message = replace(before, tool_calls=before.tool_calls + message.tool_calls)
            turns.pop()
        turns.append(message)
    return tuple(turns)


def user(content: str) -> Messages:
    return (Message("user", content),)


def assistant(content: str) -> Messages:
    return (Message("assistant", content),)


def with_system(system: Any, messages: Messages) -> Messages:
    """The conversation with a system text in front, unless the text is empty or the conversation has its own."""
    if system is None or (isinstance(system, str) and not system.strip()):
        return messages
    if messages and messages[0].role == "system":
        return messages
    return (Message("system", text(system, "system")), *messages)


_TURN_START = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def is_transcript(value: Any) -> bool:
    """Whether a value is an HH transcript: "\\n\\nHuman: … \\n\\nAssistant: …"."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def read_transcript(value: str, name: str) -> Messages:
    """An HH transcript as messages, without merging turns of the same speaker."""
    pieces = _TURN_START.split(value.strip())
    if pieces[0].strip() or len(pieces) < 3:
        raise RowError("not_a_transcript", f"{name} does not start with 'Human:': {excerpt(value)}")
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message("user" if name == "Human" else "assistant", content.strip()) for name, content in turns)


def read_transcript_prompt(value: str, name: str) -> Messages:
    """An HH transcript as a prompt: merged turns, without the empty `Assistant:` at its end."""
    turns = read_transcript(value, name)
    return merged(turns[:-1] if turns[-1].role == "assistant" and not turns[-1].content else turns)


def merged(messages: Messages) -> Messages:
    """Merges consecutive turns of the same speaker, because chat templates expect user and assistant to alternate."""
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
    # In Parquet files every turn has the keys that any turn has, with null for the missing ones.
    present = [key for key in CONTENT_KEYS if key in turn]
    return next((key for key in present if turn[key] is not None), present[0] if present else None)


def _is_call(turn: Mapping[str, Any], tags: Tags) -> bool:
    name = speaker(turn, tags)
    return (name in CALL_SPEAKERS or name in tags.callers) and not turn.get("tool_calls")


def _check_keys(turn: Mapping[str, Any], name: str, tags: Tags, own: Iterable[str | None]) -> None:
    """Raises `RowError` for unsupported keys; counts other unknown keys, which do not change what is trained."""
    for key, value in turn.items():
        if key in _KNOWN_KEYS or key in own or value is None or value in ("", [], {}):
            continue
        if key in _UNSUPPORTED_KEYS and value is not False:
            raise RowError("turn_not_held", f"{name} has {key!r} ({excerpt(value, 30)}), which palate cannot represent")
        if tags.unread is not None:
            tags.unread[str(key)] = tags.unread.get(str(key), 0) + 1


@dataclass(slots=True)
class _Parts:
    """Texts, reasoning and tool calls in the content of a turn."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: tuple[ToolCall, ...] = ()


def _parts(value: Any, name: str, may_be_null: bool) -> _Parts:
    """The content of a turn: a text, or `{type, …}` parts in the order reasoning, text, tool calls."""
    if value is None and may_be_null:
        return _Parts()
    if not isinstance(value, list | tuple):
        return _Parts([text(value, name)])
    parts = _Parts()
    for part in value:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text" if isinstance(part, str) else None
        kind = kind if isinstance(kind, str) else None
        if kind in _TEXT_PARTS and not parts.calls:
            parts.texts.append(text(part if isinstance(part, str) else part.get("text", part.get("value")), name))
        elif kind in _REASONING_PARTS and not parts.calls and not parts.texts:
            parts.reasoning.append(_reasoning_part(part, name))
        elif kind in _CALL_PARTS:
            call = part.get("value")
            parts.calls += calls_of_text(call, name) if call is not None else (read_call(part, name),)
        elif kind in _TEXT_PARTS | _REASONING_PARTS:
            raise RowError(
                "turn_not_held", f"{name} has {kind} after its text or tool calls; templates render it before"
            )
        else:
            seen = kind if kind is not None else type(part).__name__
            raise RowError("not_text", f"{name} has a part of type {seen!r}; palate reads text only")
    return parts


def _reasoning_part(part: Mapping[str, Any], name: str) -> str:
    content = next((part[key] for key in (*REASONING_KEYS, "text", "value") if part.get(key) is not None), None)
    if isinstance(content, list | tuple):
        return "".join(_parts(content, name, may_be_null=False).texts)
    return text(content, name)


def _reasoning(turn: Mapping[str, Any], parts: _Parts, name: str) -> str | None:
    """The reasoning of a turn under any of its keys; raises `RowError` if several keys differ."""
    found = {text(turn[key], f"{name}.{key}"): key for key in REASONING_KEYS if turn.get(key) not in (None, "")}
    if parts.reasoning:
        found["".join(parts.reasoning)] = "content"
    if len(found) > 1:
        raise RowError("bad_turn", f"{name} has two reasonings that differ, in {' and '.join(found.values())}")
    return next((reasoning for reasoning in found if reasoning.strip()), None)


def _label(value: Any, name: str) -> str | None:
    return None if value is None or value == "" else text(str(value) if isinstance(value, int) else value, name)


def _trained(turn: Mapping[str, Any], role: Role, name: str) -> bool:
    """Whether a turn is trained by its flags; True without one. `loss` is a flag only if it is a boolean."""
    flags: dict[str, bool] = {}
    for key in FLAG_KEYS:
        value = turn.get(key)
        if value is None or (key == "loss" and not isinstance(value, bool)):
            continue
        if value not in (0, 1):
            raise RowError("turn_weight", f"{name} has {key} {excerpt(value)}; a turn is trained (1) or not (0)")
        flags[key] = bool(value)
    if len(set(flags.values())) > 1:
        raise RowError("turn_weight", f"{name} has flags that disagree: {flags}")
    flagged = next(iter(flags.values()), None)
    if flagged and role != "assistant":
        raise RowError(
            "turn_weight", f"{name} ({role}) is marked to be trained; palate trains the assistant's turns only"
        )
    return flagged is not False or role != "assistant"
