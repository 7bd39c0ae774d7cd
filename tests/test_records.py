"""Messages: what they hold, how they compare, and how they are written."""

from __future__ import annotations

import pickle

from palate.records import DatasetRequest, Message, ToolCall, as_turn

CALL = ToolCall("f", '{"a": 1}', "c1")
FULL = Message("assistant", "I look.", (CALL,), "Let me think.", "Ann", None, trained=False)


def test_a_message_is_a_value() -> None:
    assert pickle.loads(pickle.dumps(FULL)) == FULL
    assert hash(FULL) == hash(pickle.loads(pickle.dumps(FULL)))
    assert Message("user", "q").is_plain
    assert not any(
        message.is_plain
        for message in (
            Message("assistant", "", (CALL,)),
            Message("assistant", "a", reasoning_content="b"),
            Message("user", "a", name="Ann"),
            Message("tool", "a", tool_call_id="c1"),
        )
    )


def test_reasoning_alone_is_no_answer() -> None:
    assert Message("assistant", " ", reasoning_content="hm").is_empty
    assert not Message("assistant", "", (CALL,)).is_empty


def test_text_for_comparisons() -> None:
    assert Message("user", "q").text == "q"
    assert FULL.text == 'Let me think.\nI look.\n{"name": "f", "arguments": {"a": 1}}'


def test_turns_with_arguments_as_object_and_as_text() -> None:
    function = {"name": "f", "arguments": {"a": 1}}
    assert as_turn(Message("user", "q")) == {"role": "user", "content": "q"}
    assert as_turn(FULL) == {
        "role": "assistant",
        "content": "I look.",
        "reasoning_content": "Let me think.",
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        "name": "Ann",
    }
    (call,) = as_turn(FULL, arguments_as_text=True)["tool_calls"]
    assert call["function"]["arguments"] == '{"a": 1}'


def test_arguments_that_are_no_json_are_what_was_written() -> None:
    assert ToolCall("f", '{"a": ').value == '{"a": '
    assert ToolCall("f").value == {}


def test_a_request_is_made_of_a_name_of_choices_or_of_another_request() -> None:
    request = DatasetRequest.of("a.jsonl", split="test", seed=3)
    assert request == DatasetRequest("a.jsonl", split="test", seed=3)
    assert DatasetRequest.of(request) == request
    assert DatasetRequest.of(request, seed=4) == DatasetRequest("a.jsonl", split="test", seed=4)


def test_a_run_reads_all_its_datasets_in_one_way() -> None:
    config = {"dataset_dir": "data", "columns": None, "max_samples": 5, "max_dropped": 0.1, "labels": None, "seed": 7}
    request = DatasetRequest.of_run({**config, "dataset": "a.jsonl", "learning_rate": 1e-5}, "held.jsonl")
    assert request == DatasetRequest("held.jsonl", dataset_dir="data", max_samples=5, max_dropped=0.1, seed=7)
