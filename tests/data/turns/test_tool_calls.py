"""Tool calls in every spelling."""

from __future__ import annotations

from typing import Any

import pytest

from palate.data.turns.cells import RowError
from palate.data.turns.tool_calls import calls_of_text, read_call, read_calls
from palate.records import ToolCall

F = ToolCall("f", '{"a": 1}')


@pytest.mark.parametrize(
    "call",
    [
        {"type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"function": {"name": "f", "arguments": {"a": 1}}, "id": None, "index": 0},
        {"name": "f", "arguments": {"a": 1}},
        {"name": "f", "parameters": {"a": 1}},
        {"type": "tool_use", "name": "f", "input": {"a": 1}},
    ],
)
def test_spellings(call: Any) -> None:
    assert read_call(call, "m") == F
    assert read_calls([call], "m") == read_calls(call, "m") == (F,)


def test_optional_keys_of_a_call() -> None:
    assert read_call({"name": "f", "id": 7}, "m") == ToolCall("f", "{}", "7")
    assert read_call({"name": "f", "arguments": ""}, "m") == read_call({"name": "f", "arguments": None}, "m")
    assert read_call({"name": "f", "arguments": "a=1"}, "m") == ToolCall("f", "a=1")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("f", "m is not an object"),
        ({"arguments": {}}, "m has no name"),
        ({"name": " "}, "m has no name"),
        ({"type": "custom", "name": "f"}, "type 'custom'"),
        ({"name": "f", "cache": "x"}, "'cache', which palate cannot represent"),
    ],
)
def test_invalid_calls(call: Any, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        read_call(call, "m")
    assert caught.value.reason == "bad_tool_call"


@pytest.mark.parametrize(
    "said",
    [
        '{"name": "f", "arguments": {"a": 1}}',
        "{'name': 'f', 'arguments': {'a': 1}}",
        '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
        {"name": "f", "arguments": {"a": 1}},
    ],
)
def test_calls_of_a_text(said: Any) -> None:
    assert calls_of_text(said, "m") == (F,)


@pytest.mark.parametrize("said", ["f(a=1)", "[]", "[1]", "", None, "Sure. {}"])
def test_a_text_without_a_call(said: Any) -> None:
    with pytest.raises(RowError):
        calls_of_text(said, "m")
