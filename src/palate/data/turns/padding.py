"""Removes nulls that columnar files add: all objects of a column get the keys that any of them has.

In `tools` and in the arguments of tool calls such nulls would be rendered and trained. For each row:

- In a columnar file (Parquet, Arrow) every key that is null is padding.
- A JSON file may be written from such a dataset. JSON Schema allows null only as a value (`default`, `const`, elements
  of `enum` and `examples`); if the row's tools have a null elsewhere, the row was padded, and every null key of its
  tools and arguments is padding. Otherwise a null argument is padding if its function does not declare it.

Elements of lists, and tools or arguments that are JSON text, are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palate.data.turns.cells import literal
from palate.data.turns.tool_calls import ARGUMENT_KEYS

_MAY_BE_NULL = frozenset({"default", "const", "example"})


def without_padding(row: Mapping[str, Any], *, columnar: bool) -> Mapping[str, Any]:
    """The row without padding in its tools and tool calls.

    Args:
        columnar: whether it comes from a Parquet or Arrow file.
    """
    request = row.get("input")  # of OpenAI's format
    objects = [row, request] if isinstance(request, Mapping) else [row]
    tools = next((found["tools"] for found in objects if found.get("tools")), None)
    if not columnar and tools is None:
        return row
    tools = literal(tools) if isinstance(tools, str) else tools
    tools = tools if isinstance(tools, list) else []
    padded = columnar or _has_illegal_null(tools)
    declared = _declared(tools)
    changed = {
        name: _unpadded(value) if name == "tools" and padded else _in_turns(value, declared, padded)
        for name, value in row.items()
        if isinstance(value, list | Mapping)
    }
    if isinstance(request, Mapping) and isinstance(request.get("tools"), list) and padded:
        changed["input"] = {**changed["input"], "tools": _unpadded(request["tools"])}
    return {**row, **changed} if changed else row


def _has_illegal_null(schema: Any) -> bool:
    """Whether a schema has a null in a key for which JSON Schema and tool specifications do not allow it."""
    if isinstance(schema, list):
        return any(map(_has_illegal_null, schema))
    if not isinstance(schema, Mapping):
        return False
    values = (value for key, value in schema.items() if key not in _MAY_BE_NULL)
    return any(value is None or _has_illegal_null(value) for value in values)


def _declared(tools: list[Any]) -> dict[str, frozenset[str]]:
    """Function name → its declared parameters, apart from those that are null."""
    found = {}
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
            if isinstance(properties, Mapping):
                found[function["name"]] = frozenset(key for key, schema in properties.items() if schema is not None)
    return found


def _in_turns(value: Any, declared: Mapping[str, frozenset[str]], padded: bool) -> Any:
    """A value without padding in the arguments of all tool calls inside it."""
    if isinstance(value, list):
        return [_in_turns(item, declared, padded) for item in value]
    if not isinstance(value, Mapping):
        return value
    inner = {
        key: _in_turns(item, declared, padded) if isinstance(item, list | Mapping) else item
        for key, item in value.items()
    }
    calls = inner.get("tool_calls")
    if isinstance(calls, list):
        inner["tool_calls"] = [_call(call, declared, padded) for call in calls]
    if isinstance(inner.get("function_call"), Mapping):
        inner["function_call"] = _call(inner["function_call"], declared, padded)
    return inner


def _call(call: Any, declared: Mapping[str, frozenset[str]], padded: bool) -> Any:
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(call["function"], declared, padded)}
    key = next((name for name in ARGUMENT_KEYS if isinstance(call.get(name), Mapping)), None)
    if key is None:
        return call
    known = declared.get(str(call.get("name")))
    arguments = _unpadded(call[key]) if padded else call[key]
    if known is not None:
        arguments = {name: value for name, value in arguments.items() if value is not None or name in known}
    return {**call, key: arguments}


def _unpadded(value: Any) -> Any:
    """A value without null keys of objects at any depth."""
    if isinstance(value, Mapping):
        return {key: _unpadded(item) for key, item in value.items() if item is not None}
    return [_unpadded(item) for item in value] if isinstance(value, list) else value
