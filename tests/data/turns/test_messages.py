"""Cells as text and turns."""

from __future__ import annotations

from typing import Any

import pytest

from palate.data.turns.cells import RowError, text
from palate.data.turns.messages import Tags, merged, read_transcript, read_turn, read_turns, with_system
from palate.records import Message, ToolCall


def test_names_of_speakers() -> None:
    turns = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "h"},
        {"from": "function_call", "value": '{"name": "f"}'},
        {"from": "observation", "value": "o"},
        {"role": "Assistant", "content": "a"},
        {"role": "developer", "content": "d"},
        {"from": "gpt", "text": "g"},
    ]
    assert [message.role for message in read_turns(turns, "messages")] == [
        "system", "user", "assistant", "tool", "assistant", "system", "assistant",
    ]  # fmt: skip


def test_own_tags() -> None:
    tags = Tags(role="who", content="says", roles={"mensch": "user"})
    assert read_turn({"who": "Mensch", "says": "x"}, "m", tags) == Message("user", "x")


def test_content_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}, "c"]
    assert read_turn({"role": "user", "content": parts}, "m").content == "abc"


def test_tool_calls() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call, {"name": "half", "arguments": '{"a":'}]}
    calls = (ToolCall("add", '{"a": 1}'), ToolCall("half", '{"a":'))
    assert read_turn(turn, "m") == Message("assistant", "", tool_calls=calls)
    assert [call.value for call in calls] == [{"a": 1}, '{"a":']


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"role": "user"}, "bad_turn"),
        ("user: hi", "bad_turn"),
        ({"role": "narrator", "content": "x"}, "unknown_role"),
        ({"role": None, "content": "x"}, "unknown_role"),
        ({"role": "user", "content": None}, "not_text"),
        ({"role": "user", "content": 3}, "not_text"),
        ({"role": "user", "content": [{"type": "image", "url": "u"}]}, "not_text"),
        ({"role": "user", "content": [{"type": ["text"], "text": "u"}]}, "not_text"),
        ({"role": "user", "content": [3]}, "not_text"),
        ({"role": "user", "content": "q", "reasoning": "hm"}, "bad_turn"),
        ({"role": "user", "content": "q", "tool_calls": [{"name": "f"}]}, "bad_turn"),
        ({"role": "assistant", "content": "a", "reasoning": ["hm"]}, "not_text"),
        ({"role": "assistant", "content": "a", "name": {"a": 1}}, "not_text"),
        ({"role": "assistant", "content": "a", "weight": "much"}, "turn_weight"),
        ({"role": "assistant", "content": "a", "refusal": "No."}, "turn_not_held"),
        ({"from": "function_call", "value": "f()"}, "bad_tool_call"),
        ({"role": "user", "content": "half \ud83d"}, "not_text"),
        ({"role": "assistant", "content": "", "tool_calls": [{"arguments": "{}"}]}, "bad_tool_call"),
    ],
)
def test_invalid_turns(turn: Any, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        read_turn(turn, "messages[0]")
    assert caught.value.reason == reason
    assert caught.value.detail.startswith("messages[0]")


def test_keys_without_a_value_are_ignored() -> None:
    nothing = {"tool_calls": None, "reasoning_content": "", "images": [], "train": None, "name": "", "value": None}
    assert read_turn({"from": None, "role": "assistant", "content": "a", **nothing}, "m") == Message("assistant", "a")
    columns = {"role": "assistant", "content": None, "value": "a", "prefix": False}
    assert read_turn(columns, "m") == Message("assistant", "a")


def test_reasoning_under_two_keys() -> None:
    turn = {"role": "assistant", "content": "a", "reasoning": "hm", "reasoning_content": "hm"}
    assert read_turn(turn, "m") == Message("assistant", "a", reasoning_content="hm")


def test_what_is_not_read_is_counted() -> None:
    unread: dict[str, int] = {}
    turn = {"role": "user", "content": "q", "model": "m", "toxic": False, "value": "other"}
    assert read_turn(turn, "m", Tags(unread=unread)) == Message("user", "q")
    assert unread == {"model": 1, "toxic": 1, "value": 1}


def test_text_names_what_it_found() -> None:
    with pytest.raises(RowError, match="chosen is null"):
        text(None, "chosen")
    with pytest.raises(RowError, match="chosen is int 42"):
        text(42, "chosen")


def test_transcripts() -> None:
    turns = read_transcript("\n\nHuman: a\n\nb\n\nAssistant:  c \n\nHuman: Human: d\n\nAssistant: ", "chosen")
    assert turns == (
        Message("user", "a\n\nb"),
        Message("assistant", "c"),
        Message("user", "Human: d"),
        Message("assistant", ""),
    )
    with pytest.raises(RowError, match="does not start with 'Human:'"):
        read_transcript("Hello.\n\nHuman: a", "chosen")


def test_neighbours_are_merged_and_tool_results_are_not() -> None:
    turns = [
        Message("user", "a"),
        Message("user", ""),
        Message("user", "b"),
        Message("tool", "1"),
        Message("tool", "2"),
    ]
    assert merged(tuple(turns)) == (Message("user", "a\n\nb"), Message("tool", "1"), Message("tool", "2"))


def test_system_text_is_put_in_front_once() -> None:
    asked = (Message("user", "q"),)
    assert with_system("be kind", asked) == (Message("system", "be kind"), *asked)
    assert with_system(" ", asked) == with_system(None, asked) == asked
    own = (Message("system", "own"), *asked)
    assert with_system("other", own) == own
