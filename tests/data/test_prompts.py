"""Prompts of rows of any shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.data import load_records
from palate.data.prompts import load_prompts, unread_columns
from palate.errors import DataError
from palate.records import Demonstration, Message, Messages, PreferencePair, Record, ToolCall


def test_half_a_surrogate_pair_is_no_prompt(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", {"prompt": "a?"}, {"prompt": "b \ud83d?"}, {"instruction": "c", "input": "\ud83d"}
    )
    prompts, dropped = load_prompts(path)
    assert [one.id for one in prompts] == ["p.jsonl:1"]
    assert [row.reason for row in dropped] == ["not_text"] * 2


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_every_shape_ends_before_the_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"prompt": "a?"},
        {"prompt": "b?", "system": "be brief"},
        {"conversations": [{"from": "human", "value": "c?"}, {"from": "gpt", "value": "no"}]},
        {"instruction": "d", "input": "e"},
        {"prompt": "\n\nHuman: f?\n\nAssistant: yes"},
        {"unrelated": 1},
    )
    prompts, dropped = load_prompts(path)
    assert [one.prompt for one in prompts] == [
        (Message("user", "a?"),),
        (Message("system", "be brief"), Message("user", "b?")),
        (Message("user", "c?"),),
        (Message("user", "d\ne"),),
        (Message("user", "f?"),),
    ]
    assert prompts[0].id.endswith("p.jsonl:1")
    assert [row.reason for row in dropped] == ["missing_prompt"]


def test_the_demo_has_six_prompts() -> None:
    assert len(load_prompts("palate-demo-prompts")[0]) == 6


def test_no_prompt_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"p\.jsonl: no row has a prompt; known columns are prompt, .* columns found: x"
    ):
        load_prompts(write(tmp_path / "p.jsonl", {"x": 1}))
    with pytest.raises(DataError, match="no row has a prompt, they are plain text"):
        load_prompts(write(tmp_path / "p.jsonl", {"text": "Once upon a time."}))


TURNS = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: How are you?\n\nAssistant:"
ASKED = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "How are you?"))
TALK = [{"role": turn.role, "content": turn.content} for turn in ASKED]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": TURNS, "chosen": "Well.", "rejected": "No."}, PreferencePair),
        ({"question": TURNS, "chosen": "Well.", "rejected": "No."}, PreferencePair),
        ({"prompt": TURNS, "completion": "Well."}, Demonstration),
        ({"prompt": TURNS, "completion": "Well.", "label": True}, Record),
        ({"prompt": TURNS, "completions": ["Well.", "No."]}, PreferencePair),
        ({"prompt": TURNS}, Record),
        ({"chosen": TURNS + " Well.", "rejected": TURNS + " No."}, PreferencePair),
        ({"prompt": TALK, "chosen": "Well.", "rejected": "No."}, PreferencePair),
        ({"conversations": TALK, "chosen": TALK[1], "rejected": {**TALK[1], "content": "No."}}, PreferencePair),
        (
            {
                "prompt": "How are you?",
                "chosen": [*TALK, {"role": "assistant", "content": "Well."}],
                "rejected": [*TALK, {"role": "assistant", "content": "No."}],
            },
            PreferencePair,
        ),
        ({"input": {"messages": TALK}, "preferred_output": [TALK[1]], "non_preferred_output": [TALK[0]]}, Record),
        ({"messages": [*TALK, {"role": "assistant", "content": "Well."}]}, Record),
    ],
)
def test_a_prompt_means_the_same_to_training_and_to_every_verb_that_answers_it(
    tmp_path: Path, row: dict[str, object], kind: type[Record]
) -> None:
    """`generate`, frontier, rounds and online training ask for `Record`; the other stages for what they train on."""
    if "preferred_output" in row:
        row = {**row, "non_preferred_output": [{"role": "assistant", "content": "No."}]}
    path = write(tmp_path / "p.jsonl", row)
    found: list[Messages] = [one.prompt for one in load_prompts(path)[0]]
    assert found == [ASKED]
    assert [record.prompt for record in load_records(path, kind=Record).records] == found
    assert [record.prompt for record in load_records(path, kind=kind).records] == found


def test_a_transcript_that_ends_with_an_answer_is_no_prompt_of_a_pair(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": TURNS + " Fine.", "chosen": "Well.", "rejected": "No."})
    with pytest.raises(DataError, match="prompt_ends_with_assistant"):
        load_records(path, kind=PreferencePair)


def test_mapped_columns_and_tags_of_a_register_are_read(tmp_path: Path) -> None:
    register = {
        "asked": {"file_name": "a.jsonl", "columns": {"prompt": "q", "query": "more", "system": "rules"}},
        "talks": {
            "file_name": "t.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "talk"},
            "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "customer", "assistant_tag": "agent"},
        },
        "compared": {
            "file_name": "c.jsonl",
            "ranking": True,
            "columns": {"prompt": "q", "chosen": "good", "rejected": "bad"},
        },
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(register))
    write(tmp_path / "a.jsonl", {"q": "a?", "more": "b", "rules": "be brief", "prompt": "not mapped, not read"})
    talk = [{"who": "customer", "says": "c?"}, {"who": "agent", "says": "d"}]
    write(tmp_path / "t.jsonl", {"talk": talk, "prompt": "not mapped, not read"})
    write(tmp_path / "c.jsonl", {"q": "e?", "good": "f", "bad": "g", "prompt": "not mapped, not read"})
    wanted = {
        "asked": (Message("system", "be brief"), Message("user", "a?\nb")),
        "talks": (Message("user", "c?"),),
        "compared": (Message("user", "e?"),),
    }
    for name, prompt in wanted.items():
        assert [one.prompt for one in load_prompts(name, dataset_dir=tmp_path)[0]] == [prompt]
        assert [row.prompt for row in load_records(name, kind=Record, dataset_dir=tmp_path).records] == [prompt]
    pairs = load_records("compared", kind=PreferencePair, dataset_dir=tmp_path).records
    assert [pair.prompt for pair in pairs] == [wanted["compared"]]


def test_a_list_of_texts_is_a_list_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('["a?", "b?"]')
    assert [one.prompt[0].content for one in load_prompts(str(tmp_path / "p.json"))[0]] == ["a?", "b?"]


def test_turns_as_text_and_tool_calls(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "1", "name": "f", "tool_call_id": "c1"},
    ]
    expected = (
        Message("user", "q"),
        Message("assistant", "", (ToolCall("f", '{"a": 1}', "c1"),)),
        Message("tool", "1", name="f", tool_call_id="c1"),
    )
    path = write(tmp_path / "p.jsonl", {"prompt": turns}, {"prompt": json.dumps(turns)}, {"prompt": str(turns)})
    prompts, dropped = load_prompts(path)
    assert [one.prompt for one in prompts] == [expected] * 3
    assert dropped == []


def test_answers_and_scores_of_a_comparison_file_are_named_as_unread(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pairs.jsonl",
        {"prompt": "a?", "chosen": "yes", "rejected": "no", "id": 3},
        {"prompt": "b?", "system": "be brief", "chosen": "yes", "rejected": "no", "score_chosen": 4.5},
    )
    assert unread_columns(load_prompts(path)[0]) == ["chosen", "rejected", "score_chosen"]
    turns = [{"role": "user", "content": "c?"}, {"role": "assistant", "content": "no"}]
    assert unread_columns(load_prompts(write(tmp_path / "m.jsonl", {"messages": turns, "label": True}))[0]) == [
        "messages (answers)",
        "label",
    ]
    plain = write(tmp_path / "p.jsonl", {"instruction": "d", "input": "e"}, {"instruction": "f"})
    assert unread_columns(load_prompts(plain)[0]) == []
