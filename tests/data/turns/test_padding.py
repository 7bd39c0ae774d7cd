"""Nulls that a columnar file adds to tools and tool calls, and nulls that were meant."""

from __future__ import annotations

from typing import Any

from palate.data.turns.padding import without_padding

SCHEMA = {"type": "object", "properties": {"unit": {"enum": ["C", None], "default": None}}}


def calling(name: str, arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def test_plain_rows_are_untouched() -> None:
    row = {"prompt": "q", "chosen": [{"role": "assistant", "content": None}], "margin": None}
    assert without_padding(row, columnar=False) is row
    assert without_padding(row, columnar=True) == row


def test_a_null_that_json_schema_allows_stays_unless_the_row_was_padded() -> None:
    row = {"tools": [{"name": "f", "parameters": SCHEMA}], "prompt": "q"}
    assert without_padding(row, columnar=False) == row
    cleaned = {"type": "object", "properties": {"unit": {"enum": ["C", None]}}}
    padded = {"tools": [{"name": "f", "strict": None, "parameters": SCHEMA}], "prompt": "q"}
    for given, columnar in ((padded, False), (row, True)):
        assert without_padding(given, columnar=columnar)["tools"] == [{"name": "f", "parameters": cleaned}]


def test_tools_as_text_are_as_they_were_written() -> None:
    row = {"tools": '[{"name": "f", "x": null}]', "messages": [calling("f", '{"a": null}')]}
    assert without_padding(row, columnar=True) == row


def test_an_argument_that_its_function_does_not_declare() -> None:
    tools = [{"name": "f", "parameters": {"properties": {"a": {}, "c": {}}}}]
    row = {"tools": tools, "chosen": calling("f", {"a": 1, "b": None, "c": None})}
    (call,) = without_padding(row, columnar=False)["chosen"]["tool_calls"]
    assert call["function"]["arguments"] == {"a": 1, "c": None}
    (call,) = without_padding(row, columnar=True)["chosen"]["tool_calls"]
    assert call["function"]["arguments"] == {"a": 1}


def test_calls_anywhere_in_a_row() -> None:
    turn = calling("f", {"a": {"b": None, "c": [None]}})
    rows = [{"completions": [[turn]]}, {"input": {"messages": [turn], "tools": [{"name": "f", "x": None}]}}]
    listed, nested = (without_padding(row, columnar=True) for row in rows)
    for found in (listed["completions"][0][0], nested["input"]["messages"][0]):
        assert found["tool_calls"][0]["function"]["arguments"] == {"a": {"c": [None]}}
    assert nested["input"]["tools"] == [{"name": "f"}]
