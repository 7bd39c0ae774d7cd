"""Each known format: recognised from one row, converted to the record that was meant; and every real file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.data import FORMATS, Format, LoadedData, RatedAnswers, Reading, load_records
from palate.data.formats.labels import find_coding
from palate.data.formats.recognise import recognise
from palate.data.formats.rows import Origin
from palate.errors import DataError
from palate.records import (
    Demonstration,
    LabelledCompletion,
    Message,
    PreferencePair,
    Ranking,
    Record,
    Rollouts,
    ScoredCompletion,
    ToolCall,
)

USER, BOT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
WORSE = {"role": "assistant", "content": "b"}
ASKED = (Message("user", "q"),)
BETTER_TURN, WORSE_TURN = (Message("assistant", "a"),), (Message("assistant", "b"),)

PAIRS: dict[str, list[dict[str, Any]]] = {
    "prompt-pairs": [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [USER], "chosen": [BOT], "rejected": [WORSE]},
        {"prompt": USER, "chosen": BOT, "rejected": WORSE},
        {"prompt": "q", "chosen": [USER, BOT], "rejected": [USER, WORSE], "messages": [USER, BOT]},
        {"question": "q", "chosen": "a", "rejected": "b"},
    ],
    "implicit-prompt": [{"chosen": [USER, BOT], "rejected": [USER, WORSE]}],
    "hh-transcripts": [
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        {
            "prompt": "\n\nHuman: q\n\nAssistant:",
            "chosen": "\n\nHuman: q\n\nAssistant: a",
            "rejected": "\n\nHuman: q\n\nAssistant: b",
        },
    ],
    "hh-prompt": [{"prompt": "\n\nHuman: q\n\nAssistant:", "response": " a", "chosen": " a", "rejected": " b"}],
    "conversations-pairs": [
        {"conversations": [{"from": "human", "value": "q"}], "chosen": "a", "rejected": "b"},
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        {"messages": [USER], "chosen": [BOT], "rejected": [WORSE]},
    ],
    "alpaca-pairs": [{"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}],
    "chosen-rejected-messages": [
        {
            "chosen_messages": [
                {"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0.0},
                {"role": "assistant", "content": [{"type": "text", "value": "a"}], "loss_weight": 1.0},
            ],
            "rejected_messages": [USER, WORSE],
        }
    ],
    "openai-preference": [{"input": {"messages": [USER]}, "preferred_output": [BOT], "non_preferred_output": [WORSE]}],
    "stack-exchange": [{"question": "q", "response_j": "a", "response_k": "b"}],
    "two-answers": [
        {"question": "q", "answer_1": "a", "answer_2": "b", "chosen": 1},
        {"question": "q", "answer_1": "b", "answer_2": "a", "chosen": "2"},
        {"input": "q", "output_1": "b", "output_2": "a", "label": 2},
        {"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1.2},
        {"context": [USER], "response1": "b", "response2": "a", "overall_preference": 3},
        {"prompt": "q", "response_a": "b", "response_b": "a", "winner": "model_b"},
        {"prompt": "q", "completion_1": "b", "completion_2": "a", "score_1": 1, "score_2": 2},
        {"conversation_a": [USER, WORSE], "conversation_b": [USER, BOT], "winner": "model_b"},
    ],
    "label-studio": [
        {
            "data": {"prompt": "q", "answer1": "b", "answer2": "a"},
            "annotations": [{"result": [{"value": {"selected": "right"}}]}],
        }
    ],
    "answer-lists": [{"prompt": "q", "chosen": ["a"], "rejected": ["b"]}],
    "best-of-list": [{"prompt": "q", "answers": ["b", "a"], "best": 2}],
    "rejected-response": [
        {"messages": [USER, BOT], "rejected_response": "b"},
        {"messages": [USER, BOT], "rejected_messages": [USER, WORSE]},
        {"query": "q", "response": "a", "rejected_response": "b"},
    ],
    "pku-saferlhf": [
        {"prompt": "q", "response_0": "b", "response_1": "a", "better_response_id": 1, "safer_response_id": None}
    ],
}


LABELS = {"1": "first", "1.2": "first", "2": "second"}
"""What one row alone does not say of its label."""


def read_row(form: Format, row: dict[str, Any]) -> Record:
    cells = form.labels(row, Reading()) if form.labels is not None else None
    pair = cells is not None and cells.scheme == "pair"
    coding = find_coding([cells] if cells is not None else [], LABELS if pair else {}, "x", {})
    read = form.read(row, Origin("x:1", "x", row, {}), Reading(coding=coding))
    (record,) = [read] if isinstance(read, Record) else read
    return record


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in PAIRS.items() for row in rows])
def test_every_way_to_write_a_pair(name: str, row: dict[str, Any]) -> None:
    found = recognise([row], Reading(), "x", PreferencePair)
    assert (found.format.name, found.confidence) == (name, 1.0)
    pair = read_row(found.format, row)
    assert isinstance(pair, PreferencePair)
    assert (pair.prompt, pair.chosen, pair.rejected) == (ASKED, BETTER_TURN, WORSE_TURN)


@pytest.mark.parametrize(
    ("name", "row", "kind"),
    [
        ("messages", {"messages": [USER, BOT]}, Demonstration),
        ("messages", {"conversations": [{"from": "user", "value": "q"}, {"from": "gpt", "value": "a"}]}, Demonstration),
        ("alpaca", {"instruction": "q", "input": "", "output": "a"}, Demonstration),
        ("prompt-completion", {"prompt": "q", "completion": "a"}, Demonstration),
        ("prompt-completion", {"prompt": [USER], "response": [BOT]}, Demonstration),
        ("prompt-completion", {"question": "q", "answer": "a"}, Demonstration),
        ("labelled-messages", {"messages": [USER, BOT], "label": True}, LabelledCompletion),
        ("labelled", {"prompt": "q", "completion": "a", "label": "true"}, LabelledCompletion),
        ("labelled", {"instruction": "q", "input": "", "output": "a", "label": 1}, LabelledCompletion),
        ("scored", {"prompt": "q", "response": "a", "score": "0.25"}, ScoredCompletion),
        ("helpsteer", {"prompt": "q", "response": "a", "helpfulness": 3, "correctness": 4, "coherence": 4},
         ScoredCompletion),
        ("ranked", {"instruction": "q", "input": "", "output": ["a", "b"], "history": []}, Ranking),
        ("ranked", {"prompt": [USER], "completions": [[BOT], [WORSE]]}, Ranking),
        (
            "ranked-answers",
            {"prompt": "q", "answers": [{"answer": "b", "rank": 2}, {"answer": "a", "rank": 1}]},
            Ranking,
        ),
        ("ranked-answers", {"context": [USER], "completions": ["b", "a"], "ranks": [1, 0]}, Ranking),
        (
            "message-tree",
            {"prompt": {"text": "q", "replies": [{"role": "assistant", "text": "b", "rank": 1, "replies": []},
                                                 {"role": "assistant", "text": "a", "rank": 0, "replies": []}]}},
            Ranking,
        ),
        ("rollouts", {"prompt": "q", "completions": ["a", "b"], "rewards": [1, 0]}, Rollouts),
        (
            "rated",
            {"instruction": "q", "completions": [{"response": "a", "score": 9}, {"response": "b", "score": 2}]},
            RatedAnswers,
        ),
        ("prompts", {"prompt": "q"}, Record),
        ("prompts", {"messages": [USER]}, Record),
    ],
)  # fmt: skip
def test_every_other_shape(name: str, row: dict[str, Any], kind: type[Record]) -> None:
    found = recognise([row], Reading(), "x")
    assert found.format.name == name
    record = read_row(found.format, row)
    assert type(record) is kind
    assert record.prompt == ASKED
    if isinstance(record, Demonstration | LabelledCompletion | ScoredCompletion):
        assert record.completion == BETTER_TURN
    if isinstance(record, Ranking | Rollouts | RatedAnswers):
        assert record.completions == (BETTER_TURN, WORSE_TURN)


def test_plain_text_has_no_prompt() -> None:
    row = {"text": "once upon a time"}
    found = recognise([row], Reading(), "x")
    record = found.format.read(row, Origin("x:1", "x", row, {}), Reading())
    assert isinstance(record, Demonstration)
    assert record.prompt == ()
    assert record.completion == (Message("assistant", "once upon a time"),)


def test_every_format_is_tested_here() -> None:
    others = {
        "messages",
        "alpaca",
        "prompt-completion",
        "labelled-messages",
        "labelled",
        "scored",
        "ranked",
        "rollouts",
        "ranked-answers",
        "message-tree",
        "helpsteer",
    }
    assert {form.name for form in FORMATS} == {*PAIRS, *others, "rated", "prompts", "text"}


def test_the_wanted_kind_decides_where_a_row_can_be_both() -> None:
    row = {"prompt": "q", "response": "a", "chosen": "a", "rejected": "b"}
    assert recognise([row], Reading(), "x", PreferencePair).format.name == "prompt-pairs"
    assert recognise([row], Reading(), "x", Demonstration).format.name == "prompt-completion"


def test_confidence_is_the_share_of_rows_of_that_shape() -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}] * 3 + [{"prompt": "q", "chosen": "a"}]
    assert recognise(rows, Reading(), "x", PreferencePair).confidence == 0.75


def test_what_is_missing_is_named_with_the_remedy() -> None:
    with pytest.raises(DataError) as caught:
        recognise([{"prompt": "q", "good": "a", "rejected": "b"}], Reading(), "pairs.jsonl", PreferencePair)
    assert str(caught.value) == (
        "pairs.jsonl: the rows lack 'chosen' of {prompt, chosen, rejected}; name the column that has it, "
        "columns: {chosen: YOUR_COLUMN} or --column chosen=YOUR_COLUMN; columns found: prompt, good, rejected"
    )


@pytest.mark.parametrize("kind", [None, PreferencePair])
def test_a_misspelt_column_is_guessed_and_its_rows_are_not_read_as_prompts(kind: type[Record] | None) -> None:
    row = {"prompt": "q", "choosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match=r"columns: \{chosen: choosen\} or --column chosen=choosen; columns found"):
        recognise([row], Reading(), "f", kind)


def test_a_prompt_with_one_answer_is_still_a_prompt() -> None:
    assert recognise([{"prompt": "q", "rejected": "b"}], Reading(), "f").format.name == "prompts"


def test_an_unknown_shape_shows_how_to_name_its_columns() -> None:
    with pytest.raises(DataError, match=r"for {prompt, chosen, rejected} name your columns, .*--column .*found: x, y"):
        recognise([{"x": 1, "y": 2}], Reading(), "f", PreferencePair)


def test_a_column_name_cannot_break_the_line() -> None:
    with pytest.raises(DataError) as caught:
        recognise([{"a\nb": None}], Reading(), "f")
    assert str(caught.value).endswith("columns found: a b")


def test_a_shape_of_another_kind_is_named() -> None:
    with pytest.raises(DataError, match=r"rows are \{messages.*\(demonstrations\), which cannot become pairs"):
        recognise([{"messages": [USER, BOT]}], Reading(), "f", PreferencePair)


SharedData = Callable[[str], Path]


def load(shared_data: SharedData, name: str, **options: Any) -> LoadedData[PreferencePair]:
    return load_records(str(shared_data(f"preference/{name}")), kind=PreferencePair, **options)


@pytest.mark.parametrize(
    ("name", "form", "rows", "dropped"),
    [
        ("ultrafeedback_1k_train.jsonl", "prompt-pairs", 1000, {"equal": 5, "empty_rejected": 1, "empty_chosen": 1}),
        ("hh_harmless_base_test.jsonl.gz", "hh-transcripts", 2312, {"diverges": 5, "empty_chosen": 4}),
        ("lf_dpo_en_demo.json", "conversations-pairs", 300, {}),
        ("lf_dpo_zh_demo.json", "conversations-pairs", 300, {}),
        ("lf_v1_dpo_demo.jsonl", "chosen-rejected-messages", 10, {}),
        ("medicalgpt_toolcall_dpo_zh.jsonl", "conversations-pairs", 11, {}),
        ("stack_exchange_paired_tiny.json", "stack-exchange", 25, {}),
        ("oasst_rm_zh.json", "ranked", 775, {"too_few_answers": 4}),
        ("pku_saferlhf_sample_32.json", "pku-saferlhf", 32, {}),
        ("xstest_safety_pairs.jsonl", "pku-saferlhf", 976, {}),
    ],
)
def test_every_real_file_is_read_without_options(
    shared_data: SharedData, name: str, form: str, rows: int, dropped: dict[str, int]
) -> None:
    loaded = load(shared_data, name)
    (report,) = loaded.sources
    assert (report.format, report.confidence, report.rows_read) == (form, 1.0, rows)
    assert report.dropped_by_reason == dropped
    assert len(loaded.records) == report.used == rows - sum(dropped.values())
    assert len(loaded.dropped) == sum(dropped.values())
    assert len({record.id for record in loaded.records}) == len(loaded.records)


def test_the_unpaired_file(shared_data: SharedData) -> None:
    path = str(shared_data("preference/lf_kto_en_demo.json"))
    loaded = load_records(path, kind=LabelledCompletion)
    assert loaded.sources[0].format == "labelled-messages"
    assert (len(loaded.records), sum(record.desirable for record in loaded.records)) == (300, 150)
    assert max(len(record.prompt) for record in loaded.records) == 11


def test_the_rows_of_hh_that_cannot_be_used(shared_data: SharedData) -> None:
    loaded = load(shared_data, "hh_harmless_base_test.jsonl.gz")
    by_reason: dict[str, list[str]] = {}
    for drop in loaded.dropped:
        by_reason.setdefault(drop.reason, []).append(drop.id.rpartition(":")[2])
    assert by_reason == {
        "empty_chosen": ["87", "517", "926", "1104"],
        "diverges": ["1255", "1689", "1951", "1953", "2037"],
    }
    # Two answers in a row (the dataset has a few) become one turn: templates want speakers to alternate.
    turns = next(record for record in loaded.records if record.id.endswith(":764")).prompt
    assert [message.role for message in turns] == ["user", "assistant", "user"]


def test_ultrafeedback_margins(shared_data: SharedData) -> None:
    loaded = load(shared_data, "ultrafeedback_1k_train.jsonl")
    first, second = loaded.records[:2]
    assert (first.margin, second.margin) == (1.0, 7.0)
    assert loaded.sources[0].unknown_columns == ("source_index", "metadata")
    assert second.extra["source_index"] == 39878


def test_llama_factory_english_rows(shared_data: SharedData) -> None:
    records = load(shared_data, "lf_dpo_en_demo.json").records
    assert sum(record.prompt[0].role == "system" for record in records) == 80
    assert sum(len([m for m in record.prompt if m.role == "user"]) > 1 for record in records) == 106


def test_tool_calls_and_their_results(shared_data: SharedData) -> None:
    records = load(shared_data, "medicalgpt_toolcall_dpo_zh.jsonl").records
    called = records[1].prompt
    assert [message.role for message in called] == ["user", "assistant", "tool"]
    assert (called[1].content, called[1].tool_calls) == ("", (ToolCall("get_weather", '{"city": "北京"}'),))
    assert all(record.tools is not None and record.tools.startswith("[{") for record in records)
    assert all([message.role for message in record.chosen] == ["assistant"] for record in records)


def test_safety_labels(shared_data: SharedData) -> None:
    safer = load(shared_data, "xstest_safety_pairs.jsonl", prefer="safer")
    assert len(safer.records) == 520
    assert safer.sources[0].dropped_by_reason == {"no_label": 456}
    assert safer.records[0].dimensions == {"helpfulness": (1.0, 0.0), "safety": (1.0, 0.0)}
    both = load(shared_data, "pku_saferlhf_sample_32.json", prefer="both")
    assert both.sources[0].dropped_by_reason == {"labels_disagree": 19}
    better = load(shared_data, "pku_saferlhf_sample_32.json").records
    opposed = [pair for pair in better if pair.dimensions == {"helpfulness": (1.0, 0.0), "safety": (0.0, 1.0)}]
    assert len(opposed) == 19


def test_rankings_keep_their_length(shared_data: SharedData) -> None:
    path = str(shared_data("preference/oasst_rm_zh.json"))
    loaded = load_records(path, kind=Ranking)
    assert len(loaded.records) == 771
    assert loaded.sources[0].notices == {"repeated_answer": 5}
    assert max(len(record.completions) for record in loaded.records) == 10
    assert sum(len(record.prompt) > 1 for record in loaded.records) == 390


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


HINTED: list[dict[str, Any]] = [
    {"conversations": [turn("user", "q")], "chosen": turn("assistant", "a"), "rejected": turn("assistant", "b")},
    {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
    {"prompt": "q", "chosen": "a", "rejected": "b"},
    {"question": "q", "response_j": "a", "response_k": "b"},
    {"instruction": "q", "completions": [{"response": "a", "overall_score": 5}, {"response": "b", "overall_score": 3}]},
    {"instruction": "q", "input": "", "output": ["a", "b"]},
    {"prompt": "q", "completion": "a"},
]


@pytest.mark.parametrize("row", HINTED)
@pytest.mark.parametrize("kind", [PreferencePair, Demonstration, Record])
def test_a_hint_does_not_lead_to_a_second_refusal(row: dict[str, Any], kind: type[Record]) -> None:
    """Every column renamed in turn: where a message says how to name the column, doing so is enough."""
    for column in row:
        renamed = {("theirs" if name == column else name): value for name, value in row.items()}
        try:
            recognise([renamed], Reading(), "f.jsonl", kind)
        except DataError as error:
            hint = re.search(r"lack .* columns: \{(\w+): YOUR_COLUMN\}", str(error))
            if hint is None:
                continue
            mapped = {(hint[1] if name == "theirs" else name): value for name, value in renamed.items()}
            assert recognise([mapped], Reading(), "f.jsonl", kind).confidence == 1


def test_a_hint_names_every_column_that_is_lacking() -> None:
    with pytest.raises(DataError, match=r"columns: \{chosen: YOUR_COLUMN, rejected: YOUR_COLUMN\} or --column"):
        recognise([{"prompt": "q", "good": "a", "bad": "b"}], Reading(), "f.jsonl", PreferencePair)
    with pytest.raises(DataError, match=r"the rows lack 'rejected' of \{prompt, chosen, rejected\}; columns found"):
        recognise([{"prompt": "q", "chosen": "a"}], Reading(), "f.jsonl", PreferencePair)


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": "f", "parameters": {}}],
        '[{"name": "f", "parameters": {}}]',
        ['{"name": "f", "parameters": {}}'],
        '["{\\"name\\": \\"f\\", \\"parameters\\": {}}"]',
    ],
)
def test_tools_as_objects_and_as_text(tmp_path: Path, tools: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "q", "chosen": "a", "rejected": "b", "tools": tools}) + "\n")
    (record,) = load_records(str(path), kind=PreferencePair).records
    assert record.tools == '[{"name": "f", "parameters": {}}]'
