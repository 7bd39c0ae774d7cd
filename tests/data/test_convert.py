"""Every format that palate writes reads back as what it was, and what it cannot hold is said."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data import load_records, open_source
from palate.data.convert import convert
from palate.data.formats.targets import TARGETS, UnsupportedRecordError, palate_row
from palate.data.formats.writers import write_rows
from palate.errors import DataError, UsageError
from palate.records import (
    DatasetRequest,
    Demonstration,
    LabelledCompletion,
    Message,
    Messages,
    PreferencePair,
    Ranking,
    Record,
    Rollouts,
    ScoredCompletion,
    ToolCall,
)

# Text as people write it, and as they should not; never blank, never half a surrogate pair.
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).map(lambda text: f"x{text}")
WORD = st.sampled_from(["alpha", "beta", "gamma"])


def turn(role: Any) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.just(role), TEXT)


CALL = st.builds(
    ToolCall,
    st.just("f"),
    st.dictionaries(TEXT, st.one_of(TEXT, st.integers(0, 9), st.none()), max_size=2).map(
        lambda arguments: json.dumps(arguments, ensure_ascii=False)
    ),
    st.one_of(st.none(), TEXT),
)
RICH = st.builds(
    Message,
    st.just("assistant"),
    st.one_of(st.just(""), TEXT),
    tool_calls=st.lists(CALL, min_size=1, max_size=2).map(tuple),
    reasoning_content=st.one_of(st.none(), TEXT),
    trained=st.booleans(),
)
RESULT = st.builds(Message, st.just("tool"), TEXT, name=st.just("f"), tool_call_id=st.one_of(st.none(), TEXT))
RICH_PAIR = st.builds(
    lambda prompt, steps, reasoning, texts: PreferencePair(
        id="x",
        prompt=prompt,
        chosen=(*steps, Message("assistant", texts[0], reasoning_content=reasoning)),
        rejected=(*steps, Message("assistant", texts[1])),
    ),
    st.one_of(st.tuples(turn("user")), st.tuples(turn("user"), RICH, RESULT)),
    st.one_of(st.just(()), st.tuples(RICH, RESULT)),
    st.one_of(st.none(), TEXT),
    st.lists(
        TEXT.map(lambda text: f"{text} end"), min_size=2, max_size=2, unique_by=lambda text: " ".join(text.split())
    ),
)
ANSWER = st.one_of(
    st.tuples(turn("assistant")),
    st.tuples(turn("assistant"), turn("tool"), turn("assistant")),
)
PROMPT: st.SearchStrategy[Messages] = st.one_of(
    st.tuples(turn("user")),
    st.tuples(turn("system"), turn("user")),
    st.tuples(turn("user"), turn("assistant"), turn("user")),
    st.tuples(turn("user"), turn("assistant"), turn("tool")),
)
NUMBER = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
EXTRA = st.dictionaries(st.sampled_from(["lang", "note", "topic"]), st.one_of(TEXT, st.integers(0, 9), st.booleans()))
SHARED = {
    "id": st.just("x"),
    "prompt": PROMPT,
    "weight": st.floats(0.1, 10).map(lambda value: round(value, 3)),
    "tools": st.one_of(st.none(), st.just('[{"name": "f"}]')),
    "extra": EXTRA,
}
PAIR = st.builds(
    PreferencePair,
    **SHARED,
    chosen=ANSWER.map(lambda answer: (*answer[:-1], Message("assistant", answer[-1].content + " better"))),
    rejected=ANSWER.map(lambda answer: (*answer[:-1], Message("assistant", answer[-1].content + " worse"))),
    margin=st.one_of(st.none(), NUMBER),
    dimensions=st.one_of(st.none(), st.dictionaries(WORD, st.tuples(NUMBER, NUMBER), min_size=1)),
)
RECORDS: dict[type[Record], st.SearchStrategy[Any]] = {
    PreferencePair: PAIR,
    Demonstration: st.builds(Demonstration, **SHARED, completion=st.tuples(turn("assistant"))),
    LabelledCompletion: st.builds(LabelledCompletion, **SHARED, completion=ANSWER, desirable=st.booleans()),
    ScoredCompletion: st.builds(ScoredCompletion, **SHARED, completion=ANSWER, score=st.floats(0, 1)),
    Ranking: st.builds(
        Ranking, **SHARED, completions=st.lists(TEXT, min_size=2, max_size=4, unique=True).map(
            lambda texts: tuple((Message("assistant", f"{n} {text}"),) for n, text in enumerate(texts)))
    ),
    Rollouts: st.builds(
        Rollouts, **SHARED, completions=st.tuples(ANSWER, ANSWER), rewards=st.tuples(NUMBER, NUMBER)
    ),
}  # fmt: skip


def content(record: Record) -> dict[str, Any]:
    """A record without what belongs to the file it lies in."""
    row = palate_row(record)
    assert row.pop("prompt", None) is not None or "text" in row
    return {**row, "messages of the prompt": record.prompt}


def round_trip(records: list[Any], kind: type[Record], name: str, to: str = "palate") -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_rows(path, [TARGETS[to].row(record) for record in records])
        loaded = load_records(str(path), kind=kind, max_dropped=1)
        assert loaded.dropped == []
        return loaded.records


@pytest.mark.parametrize("kind", list(RECORDS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_palate_rows_are_read_back_as_they_were(kind: type[Record], data: st.DataObject) -> None:
    records = data.draw(st.lists(RECORDS[kind], min_size=1, max_size=4))
    for name in ("a.jsonl", "a.json"):
        again = round_trip(records, kind, name)
        assert [content(record) for record in again] == [content(record) for record in records]
        assert [record.extra for record in again] == [record.extra for record in records]


def test_a_carriage_return_in_a_cell_survives_csv() -> None:
    texts = ["x\r0", "\r", "x\r\ny"]
    asked, better, worse = (Message("user", "q"),), (Message("assistant", "a"),), (Message("assistant", "b"),)
    fields = {"prompt": asked, "chosen": better, "rejected": worse}
    records = [PreferencePair(id="x", **fields, extra={"lang": text}) for text in texts]
    assert [record.extra["lang"] for record in round_trip(records, PreferencePair, "a.csv")] == texts


@settings(max_examples=40, deadline=None)
@given(records=st.lists(PAIR, min_size=1, max_size=4))
def test_pairs_in_parquet_arrow_and_csv(records: list[PreferencePair]) -> None:
    for name in ("a.parquet", "a.arrow", "a.csv", "a.tsv", "a.jsonl.zst"):
        again = round_trip(records, PreferencePair, name)
        for before, after in zip(records, again, strict=True):
            assert (after.prompt, after.chosen, after.rejected) == (before.prompt, before.chosen, before.rejected)
            assert (after.weight, after.margin, after.tools) == (before.weight, before.margin, before.tools)
            assert after.dimensions == before.dimensions


@settings(max_examples=30, deadline=None)
@given(records=st.lists(RICH_PAIR, min_size=1, max_size=4))
def test_tool_calls_reasoning_and_flags_survive(records: list[PreferencePair]) -> None:
    """Parquet holds them as JSON text, so that nothing is padded."""
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        again = round_trip(records, PreferencePair, name, "trl")
        for before, after in zip(records, again, strict=True):
            assert (after.prompt, after.chosen, after.rejected) == (before.prompt, before.chosen, before.rejected)


def test_what_other_formats_cannot_hold_is_named() -> None:
    asked, call = (Message("user", "q"),), ToolCall("f", '{"a": 1}')
    plain = (Message("assistant", "b"),)
    cases: list[tuple[Messages, dict[str, str | None]]] = [
        ((Message("assistant", "a", reasoning_content="hm"),), {"openai": "reasoning", "llamafactory": "reasoning"}),
        ((Message("assistant", "a", trained=False), *plain), {"openai": "not trained", "llamafactory": "2 turns"}),
        ((Message("assistant", "", tool_calls=(call,)),), {"openai": "no id", "llamafactory": None}),
        (
            (Message("assistant", "a", tool_calls=(replace(call, id="1"),)),),
            {"openai": None, "llamafactory": "text beside"},
        ),
    ]
    for chosen, expected in cases:
        record = PreferencePair(id="x", prompt=asked, chosen=chosen, rejected=plain)
        for to, words in expected.items():
            if words is None:
                (again,) = round_trip([record], PreferencePair, "a.jsonl", to)
                assert again.chosen == chosen
            else:
                with pytest.raises(UnsupportedRecordError, match=words):
                    TARGETS[to].row(record)


def test_openai_rows_have_arguments_as_text() -> None:
    chosen = (Message("assistant", "", tool_calls=(ToolCall("f", '{"a": 1}', "c1"),)),)
    record = PreferencePair(
        id="x", prompt=(Message("user", "q"),), chosen=chosen, rejected=(Message("assistant", "b"),)
    )
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    assert TARGETS["openai"].row(record)["preferred_output"][0]["tool_calls"] == [call]


def test_llama_factory_function_calls() -> None:
    calls = (ToolCall("f", '{"a": 1}', "c1"), ToolCall("g", "{}"))
    turns = (Message("user", "q"), Message("assistant", "", tool_calls=calls), Message("tool", "1", name="f"))
    record = Demonstration(id="x", prompt=turns, completion=(Message("assistant", "One."),))
    assert TARGETS["llamafactory"].row(record)["conversations"] == [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": '[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]'},
        {"from": "observation", "value": "1"},
        {"from": "gpt", "value": "One."},
    ]
    assert "names of speakers and ids of tool calls" in TARGETS["llamafactory"].loses(record)


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        (PreferencePair, "trl"), (LabelledCompletion, "trl"), (Demonstration, "trl"), (LabelledCompletion, "kto"),
        (Ranking, "ranked"),
    ],
)  # fmt: skip
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_targets_that_hold_everything(kind: type[Record], to: str, data: st.DataObject) -> None:
    records = data.draw(st.lists(RECORDS[kind], min_size=1, max_size=3))
    again = round_trip(records, kind, "a.jsonl", to)
    assert [content(record) for record in again] == [content(record) for record in records]


@settings(max_examples=40, deadline=None)
@given(record=PAIR)
def test_llama_factory_and_openai_rows(record: PreferencePair) -> None:
    for to in ("llamafactory", "openai"):
        if len(record.chosen) > 1 or len(record.rejected) > 1:
            with pytest.raises(UnsupportedRecordError):
                TARGETS[to].row(record)
            continue
        (again,) = round_trip([record], PreferencePair, "a.jsonl", to)
        assert (again.prompt, again.chosen, again.rejected) == (record.prompt, record.chosen, record.rejected)
        kept = content(again) if to == "llamafactory" else None
        assert kept is None or kept == content(record)


def written(folder: Path, rows: list[Any], name: str = "in.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


GOOD = {"prompt": "q", "chosen": "a", "rejected": "b"}


def test_nothing_is_lost_silently(tmp_path: Path) -> None:
    two_turns = [{"role": "tool", "content": "t"}, {"role": "assistant", "content": "a"}]
    rows = [GOOD, {**GOOD, "chosen": ""}, {**GOOD, "chosen": two_turns}]
    path = written(tmp_path, [*rows, {**GOOD, "margin": 2, "lang": "en"}])
    done = convert(path, tmp_path / "out.jsonl", to="openai")
    assert done.written == 2
    assert [(drop.id, drop.reason) for drop in done.left_out] == [
        ("in.jsonl:2", "empty_chosen"),
        ("in.jsonl:3", "not_held"),
    ]
    assert done.loses == {"column 'lang'": 1, "margin": 1}
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0]) == {
        "input": {"messages": [{"role": "user", "content": "q"}]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
    card = json.loads((tmp_path / "out.jsonl.data.json").read_text())
    assert card["schema"] == "palate.data/1"
    assert card["counts"] == {"written": 2, "left_out": {"empty_chosen": 1, "not_held": 1}}
    assert list(card["lineage"][0]["files"]) == ["in.jsonl"]


def test_llama_factory_gets_its_register(tmp_path: Path) -> None:
    out = tmp_path / "lf" / "taste.json"
    convert(written(tmp_path, [{**GOOD, "system": "be kind"}]), out, to="llamafactory")
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    convert(written(tmp_path, [{"messages": talk}]), tmp_path / "lf" / "imitate.json", to="llamafactory")
    register = json.loads((tmp_path / "lf" / "dataset_info.json").read_text())
    assert register["taste"] == {
        "file_name": "taste.json",
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system"},
    }
    assert register["imitate"]["columns"] == {"messages": "conversations"}
    (pair,) = load_records("taste", kind=PreferencePair, dataset_dir=tmp_path / "lf").records
    assert pair.prompt == (Message("system", "be kind"), Message("user", "q"))


def test_a_broken_register_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{")
    path = written(tmp_path, [GOOD])
    for name, says in (("out.json", "dataset_info.json: cannot be read"), ("dataset_info.json", "name another file")):
        with pytest.raises((DataError, UsageError), match=says):
            convert(path, tmp_path / name, to="llamafactory")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dataset_info.json", "in.jsonl"]
    (tmp_path / "dataset_info.json").unlink()
    for name in ("hh.train.jsonl", "hh.test.jsonl.gz"):
        convert(path, tmp_path / name, to="llamafactory")
    assert list(json.loads((tmp_path / "dataset_info.json").read_text())) == ["hh.train", "hh.test"]


def test_earlier_answers_become_answers_to_imitate_in_llama_factory(tmp_path: Path) -> None:
    talk = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    path = written(tmp_path, [{**GOOD, "prompt": talk}, GOOD])
    done = convert(path, tmp_path / "out.json", to="llamafactory", kind="demonstrations")
    assert done.loses == {"answers of the prompt that are not to be imitated": 1}


def test_one_file_holds_one_kind(tmp_path: Path) -> None:
    pairs = written(tmp_path, [GOOD])
    (tmp_path / "said.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    both = [pairs, str(tmp_path / "said.jsonl")]
    with pytest.raises(UsageError, match="would become demonstrations, the sources before it pairs; one file"):
        convert(both, tmp_path / "out.jsonl", to="trl")
    assert not (tmp_path / "out.jsonl").exists()
    assert convert(both, tmp_path / "out.jsonl", to="trl", kind="demonstrations").written == 2


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow"])
def test_columns_that_no_arrow_type_holds_are_json(tmp_path: Path, name: str) -> None:
    columns = {"long": (2**53 + 1, 0.5), "count": (2**53 + 1, 1), "turn": ({"role": "user", "content": "\ud83d"}, None)}
    rows = [{**GOOD, **{key: values[place] for key, values in columns.items()}} for place in (0, 1)]
    convert(written(tmp_path, rows), tmp_path / name)
    read = [row for _, row in open_source(str(tmp_path / name)).rows()]
    assert [row["count"] for row in read] == [2**53 + 1, 1]
    assert [json.loads(row["long"]) for row in read] == [2**53 + 1, 0.5]
    assert json.loads(read[0]["turn"]) == columns["turn"][0]


def test_paired_becomes_unpaired_and_back(tmp_path: Path) -> None:
    rows = [{**GOOD, "prompt": f"q{n}"} for n in range(3)]
    convert(written(tmp_path, rows), tmp_path / "kto.jsonl", to="kto")
    labels = load_records(str(tmp_path / "kto.jsonl"), kind=LabelledCompletion).records
    assert [record.desirable for record in labels] == [True, False] * 3
    back = convert(str(tmp_path / "kto.jsonl"), tmp_path / "back.jsonl", to="trl", kind="pairs")
    assert (back.written, back.left_out) == (3, ())
    pairs = load_records(str(tmp_path / "back.jsonl"), kind=PreferencePair).records
    assert [(p.prompt[0].content, p.chosen[0].content, p.rejected[0].content) for p in pairs] == [
        (f"q{n}", "a", "b") for n in range(3)
    ]


def test_scored_answers_to_one_prompt_become_pairs(tmp_path: Path) -> None:
    scores = {"q": (3, 1, 4), "p": (2, 2), "alone": (4,)}
    rows = [
        {"prompt": prompt, "response": f"{prompt}{n}", "helpfulness": score, "correctness": 3, "coherence": 4}
        for prompt, given in scores.items()
        for n, score in enumerate(given)
    ]
    done = convert(written(tmp_path, rows), tmp_path / "out.jsonl", kind="pairs")
    (pair,) = load_records(str(tmp_path / "out.jsonl"), kind=PreferencePair).records
    assert (pair.chosen[0].content, pair.rejected[0].content, pair.margin) == ("q2", "q1", 0.75)
    assert [(drop.id, drop.reason) for drop in done.left_out] == [
        ("in.jsonl:1", "not_compared"), ("in.jsonl:4", "tie"), ("in.jsonl:5", "tie"), ("in.jsonl:6", "no_partner"),
    ]  # fmt: skip


def test_an_answer_without_a_partner_is_listed(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "completion": text, "label": label} for text, label in (("a", 1), ("b", 1), ("c", 0), ("d", 1))
    ]
    rows += [{"prompt": "p", "completion": "same", "label": label} for label in (1, 0)]
    done = convert(written(tmp_path, rows), tmp_path / "out.jsonl", kind="pairs")
    assert done.written == 1
    assert [(drop.id, drop.reason) for drop in done.left_out] == [
        ("in.jsonl:2", "no_partner"), ("in.jsonl:4", "no_partner"), ("in.jsonl:5", "equal"), ("in.jsonl:6", "equal"),
    ]  # fmt: skip


def test_what_cannot_be_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = written(tmp_path, [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}])
    for options, says in (
        ({"to": "xml"}, "palate does not write 'xml'"),
        ({"kind": "votes"}, "unknown kind 'votes'"),
        ({"to": "openai", "kind": "demonstrations"}, "openai holds pairs, not demonstrations"),
        ({"kind": "pairs"}, "demonstrations cannot become pairs"),
    ):
        with pytest.raises((DataError, UsageError), match=says):
            convert(path, tmp_path / "out.jsonl", **options)
    with pytest.raises(DataError, match="nothing to write as palate: equal 1"):
        convert(written(tmp_path, [{**GOOD, "rejected": "a"}]), tmp_path / "out.jsonl")
    with pytest.raises(DataError, match="unknown type of file"):
        convert(path, tmp_path / "out.xlsx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl"]


def test_a_column_that_clashes_is_named(tmp_path: Path) -> None:
    rows = [{"ask": "q", "chosen": "a", "rejected": "b", "prompt": "something else"}]
    done = convert(DatasetRequest(written(tmp_path, rows), columns={"prompt": "ask"}), tmp_path / "out.jsonl")
    assert done.loses == {"column 'prompt'": 1}


def test_half_a_surrogate_in_an_unread_column_survives(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b", "note": "\\ud83d"}\n')
    for name in ("out.jsonl", "out.parquet", "out.csv"):
        assert convert(str(tmp_path / "in.jsonl"), tmp_path / name).written == 1
    assert [row["note"] for _, row in open_source(str(tmp_path / "out.jsonl")).rows()] == ["\ud83d"]


@pytest.mark.parametrize(
    ("name", "to", "kind"),
    [
        ("ultrafeedback_1k_train.jsonl", "trl", PreferencePair),
        ("lf_dpo_en_demo.json", "llamafactory", PreferencePair),
        ("medicalgpt_toolcall_dpo_zh.jsonl", "openai", PreferencePair),
        ("hh_harmless_base_test.jsonl.gz", "palate", PreferencePair),
        ("lf_kto_en_demo.json", "llamafactory", LabelledCompletion),
        ("oasst_rm_zh.json", "ranked", Ranking),
        ("medicalgpt_toolcall_dpo_zh.jsonl", "llamafactory", PreferencePair),
    ],
)
def test_real_files_there_and_back(
    shared_data: Callable[[str], Path], tmp_path: Path, name: str, to: str, kind: type[Record]
) -> None:
    source = str(shared_data(f"preference/{name}"))
    done = convert(source, tmp_path / "out.parquet", to=to)
    before, after = load_records(source, kind=kind), load_records(str(tmp_path / "out.parquet"), kind=kind)
    assert done.written + len(done.left_out) == before.rows_read
    # OpenAI's format needs ids of tool calls, which ShareGPT rows have not.
    not_held = {drop.id: drop.detail for drop in done.left_out if drop.reason == "not_held"}
    assert set(not_held.values()) <= {"openai: a tool call has no id"}
    kept = [record for record in before.records if record.id not in not_held]
    assert len(after.records) == len(kept) == done.written
    keep = ("prompt", "chosen", "rejected", "completion", "completions", "tools", "desirable")
    for left, right in zip(kept, after.records, strict=True):
        assert {field: getattr(left, field, None) for field in keep} == {f: getattr(right, f, None) for f in keep}
