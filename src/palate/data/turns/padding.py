"""Nulls that a columnar file adds: it gives every object of a column all the keys that any of them has.

In `tools` and in the arguments of tool calls such a null would be rendered and trained. Which nulls are padding is
decided by row:

- In a file type that cannot leave a key out (Parquet, Arrow) a null key of an object is padding.
- Elsewhere (a JSON file written from such a dataset) the tools tell: JSON Schema allows null only as a value
  (`default`, `const`, elements of `enum` and `examples`), so a null schema or keyword shows that the row was padded,
  and then all null keys of its tools and arguments are. Without that, a null argument is padding if its function does
  not declare it.

Elements of lists are never padding, and what a file holds as JSON text is never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_MAY_BE_NULL = frozenset({"default", "const", "example"})
_ARGUMENTS = ("arguments", "parameters", "input")


def without_padding(row: Mapping[str, Any], *, columnar: bool) -> Mapping[str, Any]:
    """The row without the null keys of its tools and tool calls that padding made.

    Args:
        columnar: whether the row comes from a file type that cannot leave a key out.
    """
    asked = row.get("input")
    holders = [row, asked] if isinstance(asked, Mapping) else [row]
    tools = next((holder["tools"] for holder in holders if holder.get("tools")), None)
    if not columnar and tools is None:
        return row
    listed = _listed(tools)
    padded = columnar or any(_has_illegal_null(tool) for tool in listed)
    declared = _declared(listed)
    changed = {
        name: _unpadded(value) if name == "tools" and padded else _in_turns(value, declared, padded)
        for name, value in row.items()
        if isinstance(value, list | Mapping)
    }
    if isinstance(asked, Mapping) and isinstance(asked.get("tools"), list) and padded:
        changed["input"] = {**changed["input"], "tools": _unpadded(asked["tools"])}
    return {**row, **changed} if changed else row


def _listed(tools: Any) -> list[Any]:
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            return []
    return tools if isinstance(tools, list) else []


def _has_illegal_null(schema: Any) -> bool:
    """Whether an object inside has a null where JSON Schema and tool specifications allow none."""
    if isinstance(schema, list):
        return any(map(_has_illegal_null, schema))
    if not isinstance(schema, Mapping):
        return False
    return any(
        key not in _MAY_BE_NULL if value is None else key not in _MAY_BE_NULL and _has_illegal_null(value)
        for key, value in schema.items()
    )


def _declared(tools: list[Any]) -> dict[str, frozenset[str]]:
    """Function name → the parameters that it declares, null ones aside."""
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
    """The same with the arguments of all tool calls inside unpadded."""
    if isinstance(value, list):
        return [_in_turns(one, declared, padded) for one in value]
    if not isinstance(value, Mapping):
        return value
    inner = {
        key: _in_turns(one, declared, padded) if isinstance(one, list | Mapping) else one for key, one in value.items()
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
    key = next((name for name in _ARGUMENTS if isinstance(call.get(name), Mapping)), None)
    if key is None:
        return call
    known = declared.get(str(call.get("name")))
    arguments = _unpadded(call[key]) if padded else call[key]
    if known is not None:
        arguments = {name: value for name, value in arguments.items() if value is not None or name in known}
    return {**call, key: arguments}


def _unpadded(value: Any) -> Any:
    """Without null keys of objects, at any depth; elements of lists stay."""
    if isinstance(value, Mapping):
        return {key: _unpadded(one) for key, one in value.items() if one is not None}
    return [_unpadded(one) for one in value] if isinstance(value, list) else value
