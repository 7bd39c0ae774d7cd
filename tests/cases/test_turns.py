"""Turns that are more than role and text, and answers that repeat their conversation: inputs that users brought."""

# ruff: noqa: E501  (rows are easier to read on one line)

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chat_templates
from palate.data import load_records
from palate.errors import DataError
from palate.records import (
    AnyRecord,
    Demonstration,
    Dropped,
    LabelledCompletion,
    Message,
    PreferencePair,
    Ranking,
    Record,
    Rollouts,
    ScoredCompletion,
    completions_of,
)
from palate.text.encode import encode_record, encode_records
from palate.text.preflight import check_preflight, preflight_report
from palate.text.template import Template, load_template
from tiny import tiny_tokenizer

Cases = Callable[[str], str]
CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
THINK = "<think>\n\n</think>\n\n"
REASONED = "leaves out the reasoning of an answer that is trained; use a model whose template renders reasoning_content"


@pytest.fixture
def case() -> Cases:
    """`case("toolcalls.jsonl")` is that file of ../shared/cases; the test skips where it is absent."""

    def find(name: str) -> str:
        if not (CASES / name).exists():
            pytest.skip(f"../shared/cases/{name} is not there")
        return str(CASES / name)

    return find


def template(source: str, **variables: Any) -> Template:
    """By the name of a named template, or Jinja text."""
    tokenizer = tiny_tokenizer()
    if "{" in source:
        tokenizer.chat_template = source
        return load_template(tokenizer, variables=variables)
    return load_template(tokenizer, source)


def trained(record: AnyRecord, chat: Template) -> list[str]:
    """What is trained of each completion, as text."""
    group = encode_record(record, chat)
    assert not isinstance(group, Dropped), group
    return [chat.tokenizer.decode(one.ids[one.trained]) for one in group.completions]


def asked(record: AnyRecord, chat: Template) -> str:
    """The tokens before the completions, as text."""
    group = encode_record(record, chat)
    assert not isinstance(group, Dropped), group
    return str(chat.tokenizer.decode(group.prompt_ids))


def written(folder: Path, rows: Sequence[Mapping[str, Any]], name: str = "rows.jsonl") -> str:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def calls(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function, **more}]}


def pairs(path: str) -> list[PreferencePair]:
    loaded = load_records(path, kind=PreferencePair)
    assert loaded.dropped == []
    return loaded.records


# Tool calls


@pytest.mark.parametrize("name", ["toolcalls.jsonl", "toolcalls_arrow.parquet"])
def test_tool_calls_are_trained_as_the_template_writes_them(case: Cases, name: str) -> None:
    (first, second, *_), chat = pairs(case(name)), template(chat_templates.QWEN3)
    chosen, rejected = trained(first, chat)
    city = "Oslo" if name == "toolcalls.jsonl" else "X0"
    call = f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
    assert chosen == f"{THINK}{call}<|im_end|>"
    assert rejected.startswith(f"{THINK}{'I think it is sunny' if name == 'toolcalls.jsonl' else 'no 0'}")
    if name == "toolcalls_arrow.parquet":  # padded: every tool has the parameters of all
        assert "null" not in str(first.tools)
        assert '"arguments": {"zone": "X1"}}' in trained(second, chat)[0]


def test_training_text_is_what_transformers_renders_at_inference(case: Cases) -> None:
    row = json.loads(Path(case("toolsteps.jsonl")).read_text().splitlines()[0])
    chat = template(chat_templates.QWEN3)
    (first, *_) = pairs(case("toolsteps.jsonl"))
    messages = json.loads(json.dumps(row["messages"]))
    for call in messages[1]["tool_calls"]:
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    begun = chat.tokenizer.apply_chat_template(messages, tools=row["tools"], tokenize=False, add_generation_prompt=True)
    assert asked(first, chat) == begun
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>' in begun
    assert trained(first, chat) == [
        f"{THINK}It is 0 degrees in Oslo.<|im_end|>",
        f"{THINK}I cannot know that about Oslo.<|im_end|>",
    ]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("qwen", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'),
        ("chatml", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'),
        ("llama3", '{"name": "get_weather", "parameters": {"city": "Oslo"}}<|eot_id|>'),
        ("mistral", '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Oslo"}, "id": "c1"}]<eos>'),
        (
            chat_templates.XML_CALLS,
            "<think></think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>"
            "<eos>",
        ),
        (chat_templates.TEXT_ARGUMENTS, '<|call|>get_weather\n{"city": "Oslo"}<|/call|><|eos|>'),
        (chat_templates.ONE_CALL, 'get_weather{"city": "Oslo"}<|end|>'),
    ],
)
def test_every_family_has_its_own_markup(case: Cases, name: str, call: str) -> None:
    chat = template(name)
    (first, *_) = pairs(case("toolcalls.jsonl"))
    assert trained(first, chat)[0] == call.replace("<eos>", chat.tokenizer.eos_token)


@pytest.mark.parametrize("name", ["gemma", "llama2", "zephyr", "phi2", "alpaca", "vicuna", "hh", "default", "plain"])
def test_a_family_without_tool_calls_refuses_them(case: Cases, name: str) -> None:
    for file in ("toolcalls.jsonl", "toolsteps.jsonl"):
        row = encode_record(pairs(case(file))[0], template(name))
        assert isinstance(row, Dropped)
        assert row.reason == "template_refused"
        assert "leaves out tool calls; name a template that has them (template: qwen)" in row.detail


def test_what_a_template_leaves_out_is_refused(tmp_path: Path) -> None:
    two = {**calls("f", {"a": 1}), "tool_calls": [*calls("f", {"a": 1})["tool_calls"], *calls("g", {})["tool_calls"]]}
    rows = [
        {"messages": [user("q")], "chosen": two, "rejected": says("no")},
        {
            "messages": [user("q")],
            "chosen": {**calls("f", {"a": 1}), "content": "Let me look."},
            "rejected": says("no"),
        },
    ]
    first, second = pairs(written(tmp_path, rows))
    refused = [encode_record(record, template(chat_templates.ONE_CALL)) for record in (first, second)]
    assert [row.detail for row in refused if isinstance(row, Dropped)] == [
        "the chat template leaves out tool calls; name a template that has them (template: qwen), or write the calls "
        "into the text of the answers",
        "the chat template leaves out the text next to tool calls; remove it from the row, or name a template that renders "
        "both (template: qwen)",
    ]
    assert trained(first, template("qwen"))[0].count("<tool_call>") == 2
    assert trained(second, template("qwen"))[0].startswith("Let me look.\n<tool_call>")
    assert "has one tool call in a turn" in getattr(encode_record(first, template("llama3")), "detail", "")


def test_ids_that_a_template_demands_are_its_own_words(case: Cases) -> None:
    row = encode_record(pairs(case("toolcalls.jsonl"))[0], template(chat_templates.NINE_LETTER_IDS))
    assert isinstance(row, Dropped)
    assert row.detail.endswith("Tool call IDs should be alphanumeric strings with length 9!")


def test_ids_of_nine_letters_are_rendered(tmp_path: Path) -> None:
    row = {"messages": [user("q")], "chosen": calls("f", {"a": 1}, id="abcdefghi"), "rejected": says("no")}
    chat = template(chat_templates.NINE_LETTER_IDS)
    (record,) = pairs(written(tmp_path, [row]))
    assert trained(record, chat) == [
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}]</s>',
        "no</s>",
    ]
    assert asked(record, chat) == "[INST]q[/INST]"


def test_arguments_that_are_no_json_are_rendered_as_written_or_refused(tmp_path: Path) -> None:
    row = {"messages": [user("q")], "chosen": calls("f", {"a": 1}), "rejected": calls("f", '{"a": 1')}
    (record,) = pairs(written(tmp_path, [row]))
    assert (
        trained(record, template("qwen"))[1]
        == '<tool_call>\n{"name": "f", "arguments": {"a": 1}\n</tool_call><|im_end|>'
    )
    refused = encode_record(record, template(chat_templates.ONE_CALL))  # writes them as a JSON string
    assert isinstance(refused, Dropped)
    assert 'arguments of a call of f are no JSON, and the chat template does not render them as they are: {"a": 1' in (
        refused.detail
    )


@pytest.mark.parametrize(
    "value",
    [
        '{"name": "f", "arguments": {"a": 1}}',
        '[{"name": "f", "arguments": "{\\"a\\": 1}"}]',
        '<tool_call>\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>',
    ],
)
def test_sharegpt_function_calls_get_the_markup(tmp_path: Path, value: str) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": value}]
    row = {"conversations": [*turns, {"from": "observation", "value": "1"}, {"from": "gpt", "value": "One."}]}
    (record,) = load_records(written(tmp_path, [row]), kind=Demonstration).records
    assert trained(record, template("qwen")) == [
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call><|im_end|>One.<|im_end|>'
    ]


def test_a_function_call_that_is_no_json_is_refused(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": "f(a=1)"}]
    good = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    loaded = load_records(written(tmp_path, [good, {"conversations": turns}]), kind=Demonstration)
    assert [(row.reason, row.detail) for row in loaded.dropped] == [
        ("bad_tool_call", "messages[1] is a tool call, but its text is not JSON of a call with a name")
    ]


def test_text_and_calls_of_ms_swift_are_one_turn(tmp_path: Path) -> None:
    turns = [user("q"), says("I look."), {"role": "tool_call", "content": '{"name": "f", "arguments": {}}'},
             {"role": "tool_call", "content": '{"name": "g", "arguments": {}}'}, {"role": "tool", "content": "1"},
             says("One.")]  # fmt: skip
    (record,) = load_records(written(tmp_path, [{"messages": turns}]), kind=Demonstration).records
    assert [(turn.role, turn.content, len(turn.tool_calls)) for turn in record.completion] == [
        ("assistant", "I look.", 2), ("tool", "1", 0), ("assistant", "One.", 0),
    ]  # fmt: skip


# Padding


def test_real_nulls_of_a_schema_stay() -> None:
    from palate.data.turns.padding import without_padding

    schema = {"type": "object", "properties": {"unit": {"enum": ["C", None], "default": None}}}
    row = {"tools": [{"name": "f", "parameters": schema}], "prompt": "q"}
    assert without_padding(row, columnar=False) == row
    padded = {"tools": [{"name": "f", "parameters": schema, "strict": None}], "prompt": "q"}
    cleaned = {"type": "object", "properties": {"unit": {"enum": ["C", None]}}}
    assert without_padding(padded, columnar=False)["tools"] == [{"name": "f", "parameters": cleaned}]


@pytest.mark.parametrize(("name", "kept"), [("rows.jsonl", {"a": 1, "b": None}), ("rows.parquet", {"a": 1})])
def test_a_null_argument_that_its_function_declares(tmp_path: Path, name: str, kept: dict[str, Any]) -> None:
    """JSON Lines can leave a key out, so what is there was meant; Parquet cannot."""
    tool = {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}
    turn = calls("f", {"a": 1, "b": None})
    row = {"tools": json.dumps([tool]), "messages": [user("q")], "chosen": turn, "rejected": says("no")}
    (record,) = pairs(written(tmp_path, [row], name))
    assert record.chosen[0].tool_calls[0].value == kept


def test_padding_that_a_json_file_keeps(tmp_path: Path) -> None:
    """`datasets` writes the nulls of its Arrow tables into JSON Lines."""
    tools = [
        {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}, "b": None}}},
        {"name": "g", "parameters": {"properties": {"a": None, "b": {"type": "integer"}}}},
    ]
    row = {"tools": tools, "messages": [user("q")], "chosen": calls("f", {"a": 1, "b": None}), "rejected": says("no")}
    (record,) = pairs(written(tmp_path, [row]))
    assert record.chosen[0].tool_calls[0].value == {"a": 1}
    assert "null" not in str(record.tools)


# Reasoning


def test_reasoning_is_trained_in_the_thinking_block(case: Cases) -> None:
    (first, *_) = pairs(case("reasoning.jsonl"))
    chat = template(chat_templates.QWEN3)
    assert trained(first, chat) == [
        "<think>\nAdd 0 to itself, that gives 0.\n</think>\n\n0<|im_end|>",
        "<think>\nI will guess wildly.\n</think>\n\n1<|im_end|>",
    ]
    assert asked(first, chat).endswith("<|im_start|>assistant\n")


def test_pairs_that_differ_in_their_reasoning_only_are_pairs(case: Cases) -> None:
    records = pairs(case("reasoning_only.jsonl"))
    assert len(records) == 4
    chosen, rejected = trained(records[0], template(chat_templates.QWEN3))
    assert chosen != rejected
    assert all(answer.endswith("</think>\n\n0<|im_end|>") for answer in (chosen, rejected))


@pytest.mark.parametrize("name", ["qwen", "llama3", "chatml", chat_templates.TEXT_ARGUMENTS])
def test_reasoning_that_a_template_has_no_place_for_is_refused(case: Cases, name: str) -> None:
    row = encode_record(pairs(case("reasoning.jsonl"))[0], template(name))
    assert isinstance(row, Dropped)
    assert REASONED in row.detail


@pytest.mark.parametrize(
    "answer",
    [
        {"role": "assistant", "content": "4", "reasoning": "Two and two."},
        {"role": "assistant", "content": "4", "thinking": "Two and two."},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Two and two."}, {"type": "text", "text": "4"}],
        },
        {
            "role": "assistant",
            "content": [{"type": "reasoning", "value": "Two and two."}, {"type": "text", "value": "4"}],
        },
    ],
)
def test_other_spellings_of_reasoning(tmp_path: Path, answer: dict[str, Any]) -> None:
    row = {"prompt": [user("2+2?")], "chosen": [answer], "rejected": [says("5")]}
    (record,) = pairs(written(tmp_path, [row]))
    assert trained(record, template(chat_templates.QWEN3)) == [
        "<think>\nTwo and two.\n</think>\n\n4<|im_end|>",
        f"{THINK}5<|im_end|>",
    ]


def test_reasoning_between_tool_steps_is_trained(tmp_path: Path) -> None:
    steps = [{**calls("f", {}), "reasoning_content": "I need f."}, {"role": "tool", "content": "1"},
             says("One.", reasoning_content="f says 1.")]  # fmt: skip
    (record,) = load_records(written(tmp_path, [{"messages": [user("q"), *steps]}]), kind=Demonstration).records
    (text,) = trained(record, template(chat_templates.QWEN3))
    assert text == (
        '<think>\nI need f.\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>'
        "<think>\nf says 1.\n</think>\n\nOne.<|im_end|>"
    )


def test_earlier_reasoning_that_the_template_strips_is_no_silent_loss(tmp_path: Path) -> None:
    """Qwen 3 renders the reasoning of the last answer only: the earlier ones cannot be trained as they were."""
    turns = [user("a"), says("A", reasoning_content="first"), user("b"), says("B", reasoning_content="second")]
    context = [user("a"), says("A", reasoning_content="first", train=False), *turns[2:]]
    path = written(tmp_path, [{"messages": turns}, {"messages": context}])
    refused, kept = load_records(path, kind=Demonstration).records
    row, chat = encode_record(refused, template(chat_templates.QWEN3)), template(chat_templates.QWEN3)
    assert isinstance(row, Dropped)
    assert "leaves out the reasoning of an earlier answer, as at inference" in row.detail
    assert "mask_history: true" in row.detail
    assert trained(kept, chat) == ["<think>\nsecond\n</think>\n\nB<|im_end|>"]


def test_thinking_switched_off_belongs_to_the_prompt(case: Cases) -> None:
    chat = template(chat_templates.QWEN3, enable_thinking=False)
    (first, *_) = pairs(case("toolsteps.jsonl"))
    assert asked(first, chat).endswith(f"<|im_start|>assistant\n{THINK}")
    assert trained(first, chat)[0] == "It is 0 degrees in Oslo.<|im_end|>"


# Flags


@pytest.mark.parametrize(
    "flag", [{"train": False}, {"training": False}, {"weight": 0}, {"loss_weight": 0.0}, {"loss": False}]
)
def test_a_turn_that_is_marked_as_context_is_not_trained(tmp_path: Path, flag: dict[str, Any]) -> None:
    turns = [user("a"), says("A", **flag), user("b"), says("B")]
    (record,) = load_records(written(tmp_path, [{"messages": turns}]), kind=Demonstration).records
    assert trained(record, template("chatml")) == ["B<|im_end|>"]
    turns = [user("a"), says("A"), user("b"), says("B", **flag)]
    (record,) = load_records(written(tmp_path, [{"messages": turns}]), kind=Demonstration).records
    assert trained(record, template("chatml")) == ["A<|im_end|>"]


def test_a_row_without_a_trained_turn_is_listed(tmp_path: Path) -> None:
    rows = [{"messages": [user("a"), says("A")]}, {"messages": [user("a"), says("A", train=False)]}]
    (drop,) = load_records(written(tmp_path, rows), kind=Demonstration).dropped
    assert (drop.id, drop.reason) == ("rows.jsonl:2", "not_trained")


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (says("A", loss_weight=0.5), "turn_weight"),
        (says("A", train=True, weight=0), "turn_weight"),
        (says("A", images=["a.png"]), "turn_not_held"),
        (says("A", train_detail=[{"begin_offset": 0, "end_offset": 1, "train": False}]), "turn_not_held"),
        ({"role": "assistant", "content": [{"type": "image_url", "image_url": "u"}]}, "not_text"),
        (says("A", reasoning="x", reasoning_content="y"), "bad_turn"),
        ({**calls("f", {}), "content": [{"type": "tool_call", "value": '{"name": "f"}'}, {"type": "text", "text": "x"}]},
         "turn_not_held"),
    ],
)  # fmt: skip
def test_unsupported_content_is_refused(tmp_path: Path, turn: dict[str, Any], reason: str) -> None:
    rows = [{"messages": [user("a"), says("A")]}, {"messages": [user("a"), turn]}]
    (drop,) = load_records(written(tmp_path, rows), kind=Demonstration).dropped
    assert (drop.id, drop.reason) == ("rows.jsonl:2", reason)


def test_a_user_turn_that_is_marked_to_be_trained_is_refused(tmp_path: Path) -> None:
    rows = [{"messages": [user("a"), says("A")]}, {"messages": [{**user("a"), "train": True}, says("A")]}]
    (drop,) = load_records(written(tmp_path, rows), kind=Demonstration).dropped
    assert drop.detail == "messages[0] (user) is marked to be trained; palate trains the assistant's turns only"


def test_keys_of_turns_that_are_not_read_are_named(tmp_path: Path) -> None:
    rows = [{"messages": [user("a"), says("A", model="m", score=3, empty=None)]}]
    (report,) = load_records(written(tmp_path, rows), kind=Demonstration).sources
    assert report.notices == {"turn key 'model' not read": 1, "turn key 'score' not read": 1}


# Turns as text


@pytest.mark.parametrize("name", ["jsontext.jsonl", "pyrepr.csv"])
def test_conversations_stored_as_text_are_parsed(case: Cases, name: str) -> None:
    (first, *_) = records = pairs(case(name))
    assert len(records) == 4
    system = (Message("system", "Be brief."),) if name == "jsontext.jsonl" else ()
    assert first.prompt == (*system, Message("user", "Name colour 0."))
    assert (first.chosen, first.rejected) == (
        (Message("assistant", "Green 0."),),
        (Message("assistant", "I do not know 0."),),
    )


@pytest.mark.parametrize(
    "cell",
    [
        "[{'content': 'Say }\\n {\"it\"}', 'role': 'user'}\n {'content': 'A', 'role': 'assistant'}\n {'content': 'b?', 'role': 'user'}]",
        '[{"content": "Say }\\n {\\"it\\"}", "role": "user"}, {"content": "A", "role": "assistant"}, '
        '{"content": "b?", "role": "user"}]',
    ],
)
def test_arrays_as_numpy_prints_them(tmp_path: Path, cell: str) -> None:
    (record,) = pairs(written(tmp_path, [{"prompt": cell, "chosen": "x", "rejected": "y"}]))
    assert [turn.role for turn in record.prompt] == ["user", "assistant", "user"]
    assert record.prompt[0].content == 'Say }\n {"it"}'


def test_text_that_merely_begins_like_a_list_stays_text(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Give me a list.", "chosen": "[1, 2]", "rejected": "['a', 'b']"},
        {"prompt": "JSON, please.", "chosen": '[{"name": "Ann"}]', "rejected": '{"role": "queen", "age": 3}'},
    ]
    first, second = pairs(written(tmp_path, rows))
    assert (first.chosen[0].content, first.rejected[0].content) == ("[1, 2]", "['a', 'b']")
    assert second.rejected[0].content == '{"role": "queen", "age": 3}'


def test_one_row_of_turns_among_texts_is_refused(tmp_path: Path) -> None:
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    odd = {**good, "chosen": '[{"role": "assistant", "content": "a"}]'}
    cut = {**good, "chosen": "[{'role': 'assistant', 'content': 'a"}
    loaded = load_records(written(tmp_path, [good, good, good, odd, cut]), kind=PreferencePair)
    assert [(row.id, row.reason, row.detail.split(": ")[0]) for row in loaded.dropped] == [
        ("rows.jsonl:4", "turns_as_text", "chosen has turns written as text, unlike other rows"),
        ("rows.jsonl:5", "turns_as_text", "chosen has turns written as text that cannot be parsed"),
    ]


def test_one_broken_row_among_turns_is_refused(tmp_path: Path) -> None:
    good = {"prompt": '[{"role": "user", "content": "q"}]', "chosen": "a", "rejected": "b"}
    loaded = load_records(written(tmp_path, [good, good, {**good, "prompt": "[1]"}]), kind=PreferencePair)
    assert [row.reason for row in loaded.dropped] == ["turns_as_text"]


def test_lists_of_texts_are_no_prompt(tmp_path: Path) -> None:
    """An arena's export: each side a list of texts. As a prompt it would be trained as its own notation."""
    row = {
        "prompt": '["Name colour 0.", "And one more?"]',
        "chosen": '["Green.", "Blue."]',
        "rejected": '["No.", "No."]',
    }
    with pytest.raises(DataError, match="prompt is a list of 2 texts written as text"):
        load_records(written(tmp_path, [row]), kind=PreferencePair)


# Answers that repeat their conversation


def test_answers_that_are_whole_conversations(case: Cases) -> None:
    (first, *_) = records = pairs(case("magpie.jsonl"))
    assert len(records) == 8
    assert first.prompt == (Message("user", "Name colour 0."),)
    assert (first.chosen, first.rejected) == (
        (Message("assistant", "Green 0."),),
        (Message("assistant", "I do not know 0."),),
    )


def test_a_question_twice(case: Cases) -> None:
    first, second = load_records(case("question_twice_kto.jsonl"), kind=LabelledCompletion).records
    assert (first.prompt, first.completion) == ((Message("user", "What is 2 + 2?"),), (Message("assistant", "4"),))
    assert (second.prompt, second.completion) == (
        (Message("user", "Name a colour."),),
        (Message("assistant", "Blue."),),
    )


WHOLE = [user("q"), says("a")]
WORSE = [user("q"), says("b")]


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (PreferencePair, {"prompt": "q", "chosen": WHOLE, "rejected": WORSE}),
        (PreferencePair, {"prompt": "q", "chosen": WHOLE, "rejected": "b"}),
        (PreferencePair, {"prompt": [user("q")], "chosen": WHOLE, "rejected": WORSE}),
        (PreferencePair, {"question": "q", "response_j": WHOLE, "response_k": WORSE}),
        (PreferencePair, {"prompt": "q", "answer_1": WHOLE, "answer_2": WORSE, "chosen": "answer_1"}),
        (PreferencePair, {"prompt": "q", "response_0": WHOLE, "response_1": WORSE, "better_response_id": 0}),
        (PreferencePair, {"input": {"messages": [user("q")]}, "preferred_output": WHOLE, "non_preferred_output": WORSE}),
        (Demonstration, {"prompt": "q", "completion": WHOLE}),
        (Demonstration, {"prompt": "q", "completion": "\n\nHuman: q\n\nAssistant: a"}),
        (LabelledCompletion, {"prompt": "q", "completion": WHOLE, "label": True}),
        (ScoredCompletion, {"prompt": "q", "response": WHOLE, "score": 0.5}),
        (Ranking, {"prompt": "q", "completions": [WHOLE, WORSE]}),
        (Ranking, {"instruction": "q", "completions": [{"response": WHOLE, "score": 2}, {"response": WORSE, "score": 1}]}),
        (Rollouts, {"prompt": "q", "completions": [WHOLE, WORSE], "rewards": [1, 0]}),
    ],
)  # fmt: skip
def test_one_rule_for_every_kind_of_record(tmp_path: Path, kind: type[Record], row: dict[str, Any]) -> None:
    (record,) = load_records(written(tmp_path, [row]), kind=kind).records
    assert record.prompt == (Message("user", "q"),)
    assert completions_of(record)[0] == (Message("assistant", "a"),)  # type: ignore[arg-type]


def test_votes_over_whole_conversations(tmp_path: Path) -> None:
    row = {"prompt": "q", "answer_1": WHOLE, "answer_2": WORSE}
    first, second = pairs(written(tmp_path, [{**row, "chosen": 1}, {**row, "chosen": 2}]))
    assert first.prompt == second.prompt == (Message("user", "q"),)
    assert first.chosen == second.rejected == (Message("assistant", "a"),)


def test_a_conversation_that_is_about_something_else_is_refused(tmp_path: Path) -> None:
    good = {"prompt": "q", "completion": WHOLE, "label": True}
    loaded = load_records(written(tmp_path, [good, {**good, "prompt": "another"}]), kind=LabelledCompletion)
    assert [(row.id, row.reason) for row in loaded.dropped] == [("rows.jsonl:2", "prompt_differs")]


def test_a_system_text_on_one_side_only(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be kind."}, *WHOLE]
    row = {"prompt": "q", "completion": talk, "label": True}
    other = {"system": "Be kind.", "prompt": "q", "completion": WHOLE, "label": True}
    records = load_records(written(tmp_path, [row, other]), kind=LabelledCompletion).records
    assert [record.prompt for record in records] == [(Message("system", "Be kind."), Message("user", "q"))] * 2


def test_texts_that_begin_with_the_whole_prompt(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"What is {n} + {n}?",
            "chosen": f"What is {n} + {n}?\nIt is {2 * n}.",
            "rejected": f"What is {n} + {n}? No.",
        }
        for n in range(10, 14)
    ]
    loaded = load_records(written(tmp_path, rows), kind=PreferencePair)
    assert loaded.sources[0].notices == {"prompt_repeated": 4}
    assert (loaded.records[0].chosen, loaded.records[0].rejected) == (
        (Message("assistant", "It is 20."),),
        (Message("assistant", "No."),),
    )


def test_one_answer_may_well_restate_the_question(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n} + {n}?", "chosen": f"It is {2 * n}.", "rejected": "No."} for n in range(10, 19)]
    rows.append(
        {"prompt": "What is 9 + 9?", "chosen": "What is 9 + 9? It is 18.", "rejected": "What is 9 + 9? Who knows."}
    )
    rows.append({"prompt": "Hello", "chosen": "Hello, friend.", "rejected": "Hello!"})
    loaded = load_records(written(tmp_path, rows), kind=PreferencePair)
    assert loaded.sources[0].notices == {"answers_begin_with_prompt": 1}
    assert loaded.records[9].chosen[0].content == "What is 9 + 9? It is 18."


# A template that refuses a system turn


def test_a_refused_system_turn_is_told_in_the_templates_words(case: Cases) -> None:
    loaded = load_records(case("system_all.jsonl"), kind=PreferencePair)
    chat = template(chat_templates.NO_SYSTEM)
    encoded = encode_records(loaded.records, chat)
    assert len(encoded.dropped) == 8
    words = "System role not supported; it has no system turn: write the system text into the first user turn"
    assert words in encoded.dropped[0].detail
    report = preflight_report(loaded.sources, loaded.dropped, len(loaded.records), {"train": encoded}, chat)
    with pytest.raises(DataError, match=words):
        check_preflight(report)
