"""Reads tool calls in the notations of OpenAI, ShareGPT and Anthropic."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from palate.data.turns.cells import RowError, excerpt, literal, parsed_list, text
from palate.records import ToolCall

ARGUMENT_KEYS = ("arguments", "parameters", "input")
_KNOWN = frozenset({"id", "type", "index", "function", "name", *ARGUMENT_KEYS})
_TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def read_calls(value: Any, name: str) -> tuple[ToolCall, ...]:
    """The `tool_calls` of a turn: a list of calls, or one call."""
    calls = [value] if isinstance(value, Mapping) else parsed_list(value, name)
    return tuple(read_call(call, f"{name}[{number}]") for number, call in enumerate(calls))


def read_call(call: Any, name: str) -> ToolCall:
    """`{id, type: function, function: {name, arguments}}` or `{name, arguments}`."""
    if not isinstance(call, Mapping):
        raise RowError("bad_tool_call", f"{name} is not an object: {excerpt(call)}")
    inner = call.get("function")
    function = inner if isinstance(inner, Mapping) else call
    called = function.get("name") or (inner if isinstance(inner, str) else None)
    if not isinstance(called, str) or not called.strip():
        raise RowError("bad_tool_call", f"{name} has no name: {excerpt(call)}")
    kind = call.get("type")
    if kind not in (None, "function", "tool_use", "tool_call"):
        raise RowError("bad_tool_call", f"{name} has the type {excerpt(kind)!r}; palate reads calls of functions")
    unknown = [str(key) for part in (call, function) for key, value in part.items() if key not in _KNOWN and value]
    if unknown:
        raise RowError("bad_tool_call", f"{name} has {unknown[0]!r}, which palate cannot represent: {excerpt(call)}")
    given = next((function[key] for key in ARGUMENT_KEYS if function.get(key) is not None), None)
    number = call.get("id")
    return ToolCall(
        text(called, f"{name}.name"),
        _arguments(given, f"{name}.arguments"),
        text(str(number), f"{name}.id") if number is not None and number != "" else None,
    )


def calls_of_text(content: Any, name: str) -> tuple[ToolCall, ...]:
    """The calls of a ShareGPT `function_call` turn, whose text is a call or a list of calls as JSON."""
    if isinstance(content, str):
        tagged = _TAGGED.findall(content)
        if tagged and not _TAGGED.sub("", content).strip():
            return tuple(call for inner in tagged for call in calls_of_text(inner, name))
        content = literal(content)
    if not content or not isinstance(content, Mapping | list):
        raise RowError("bad_tool_call", f"{name} is a tool call, but its text is not JSON of a call with a name")
    return read_calls(content, name)


def _arguments(given: Any, name: str) -> str:
    """The arguments as JSON text; text that is not valid JSON (the model wrote it so) is kept unchanged."""
    if isinstance(given, str):
        if not given.strip():
            return "{}"
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return text(given, name)
    return text(json.dumps({} if given is None else given, ensure_ascii=False, default=str), name)
