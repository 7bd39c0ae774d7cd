"""Whatever a file holds, reading it ends in records, dropped rows, or one line that refuses it; no row is lost."""

# ruff: noqa: E501, PT017  (tables of shapes; an error is one of the outcomes, not the expected one)

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.data import SourceReader, open_source
from palate.data.convert import convert
from palate.data.curate import curate, read_rules
from palate.data.inspect import inspect_dataset
from palate.data.mix_files import mix_files
from palate.data.sources.readers import zstd
from palate.data.split_files import split_files
from palate.errors import PalateError
from palate.records import Dropped, PreferencePair, Record

RULES = read_rules({"rules": ["exact_duplicates", "near_duplicates", "min_length"]})
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = st.sampled_from(
    ["prompt", "chosen", "rejected", "messages", "conversations", "completion", "completions", "label", "score", "system",
     "instruction", "input", "output", "history", "response_0", "response_1", "better_response_id", "weight", "margin",
     "dimensions", "tools", "rewards", "text", "question", "answer_1", "answer_2", "id"]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["", " ", "\n\nHuman: q\n\nAssistant: a", "\n\nHuman: q\n\nAssistant:", "[1", '["a"]', "\ud800", "\x00"]),
)  # fmt: skip
ANYTHING = st.one_of(
    LEAVES, st.lists(LEAVES, max_size=2), st.dictionaries(st.sampled_from(["a", "type"]), LEAVES, max_size=2)
)
CALL = st.one_of(LEAVES, st.fixed_dictionaries(
    {}, optional={"id": ANYTHING, "type": ANYTHING, "name": ANYTHING, "arguments": ANYTHING, "function": st.one_of(
        ANYTHING, st.fixed_dictionaries({}, optional={"name": ANYTHING, "arguments": ANYTHING}))}
))  # fmt: skip
PART = st.one_of(LEAVES, st.fixed_dictionaries(
    {}, optional={"type": st.one_of(ANYTHING, st.sampled_from(["text", "thinking", "tool_call", "image"])),
                  "text": ANYTHING, "value": ANYTHING, "thinking": ANYTHING}
))  # fmt: skip
CONTENT = st.one_of(LEAVES, st.lists(PART, max_size=2))
TURN = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "assistant", "tool", "nobody", "function_call", None]),
                  "content": CONTENT, "from": st.sampled_from(["human", "gpt", "function_call"]), "value": CONTENT,
                  "tool_calls": st.one_of(ANYTHING, st.lists(CALL, max_size=2)), "function_call": CALL,
                  "reasoning_content": ANYTHING, "name": ANYTHING, "tool_call_id": ANYTHING, "train": ANYTHING,
                  "weight": ANYTHING, "images": ANYTHING, "model": ANYTHING}
)  # fmt: skip
AS_TEXT = st.lists(TURN, min_size=1, max_size=2).map(lambda turns: json.dumps(turns, default=str))
VALUES = st.recursive(
    st.one_of(LEAVES, st.lists(TURN, max_size=3), AS_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
ROW = st.one_of(st.dictionaries(NAMES, VALUES, max_size=5), VALUES)
# Most rows of a file are alike; that is what makes a format recognised and the odd ones interesting.
SHAPED = st.tuples(
    st.sampled_from([
        ("prompt", "chosen", "rejected"), ("chosen", "rejected"), ("conversations", "chosen", "rejected"),
        ("messages", "label"), ("prompt", "completion", "label"), ("instruction", "input", "output"),
        ("prompt", "completions"), ("prompt", "response_0", "response_1", "better_response_id"), ("prompt", "completion", "score"),
        ("question", "answer_1", "answer_2", "label"), ("chosen_messages", "rejected_messages"), ("messages",),
    ]), st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES), min_size=1, max_size=6),
).map(lambda drawn: [dict(zip(drawn[0], values)) for values in drawn[1]])  # fmt: skip


def outcome(path: Path, kind: type[Record] | None) -> tuple[int, int, int] | str:
    """(rows read, rows used, rows dropped), or the line that refuses the file."""
    try:
        reader: SourceReader[Any] = SourceReader(open_source(str(path)), kind)
        items = list(reader)
    except PalateError as error:
        assert "\n" not in str(error)
        assert str(path.parent) in str(error)
        return str(error)
    report = reader.report()
    dropped = [item for item in items if isinstance(item, Dropped)]
    assert len(dropped) == sum(report.dropped_by_reason.values())
    assert report.used + len(dropped) == report.rows_read
    assert report.records == len(items) - len(dropped)
    return report.rows_read, report.used, len(dropped)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.arrow", "a.jsonl.gz", "a.jsonl.zst", "a.csv.gz"]
)
@QUICK
@given(content=st.binary(max_size=200))
def test_arbitrary_bytes(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        outcome(path, None)


@QUICK
@given(rows=st.one_of(st.lists(ROW, max_size=6), SHAPED), kind=st.sampled_from([None, PreferencePair]))
def test_arbitrary_rows_are_all_accounted_for(rows: list[Any], kind: type[Record] | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines, array = Path(folder) / "a.jsonl", Path(folder) / "a.json"
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
        array.write_text(json.dumps(rows))
        seen = outcome(lines, kind)
        if not isinstance(seen, str):
            assert seen[0] == len(rows)
            assert outcome(array, kind) == seen


FORMATS_PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
EXAMPLES = [
    json.loads(row)
    for row in re.findall(r"^\| [a-z-]+ \| `(\{.*\})` \| ", FORMATS_PAGE.read_text(), flags=re.MULTILINE)
]


def changed(value: Any, draw: Any) -> Any:
    """The value with something else in one place of it, at any depth."""
    inner = isinstance(value, dict | list) and value and draw(st.booleans())
    if not inner:
        return draw(VALUES)
    if isinstance(value, list):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], changed(value[place], draw), *value[place + 1 :]]
    name = draw(st.sampled_from(sorted(value)))
    return {**value, name: changed(value[name], draw)}


@st.composite
def nearly_right(draw: Any) -> list[Any]:
    """Rows of one format, of which some have something else in one place."""
    row = draw(st.sampled_from(EXAMPLES))
    return [row, *(changed(row, draw) for _ in range(draw(st.integers(1, 3)))), row]


@settings(QUICK, max_examples=400)
@given(rows=nearly_right())
def test_a_row_that_differs_from_the_others_in_one_place_is_read_or_dropped(rows: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        seen = outcome(path, None)
        assert isinstance(seen, str) or seen[0] == len(rows)


@QUICK
@given(rows=SHAPED)
def test_inspect_and_convert_never_fail_on_what_can_be_read(rows: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if isinstance(outcome(path, None), str):
            return
        found = inspect_dataset(str(path))
        assert found.rows == len(rows)
        for name in ("out.jsonl", "out.parquet", "out.csv"):
            try:
                done = convert(str(path), Path(folder) / name)
            except PalateError as error:
                assert "nothing to write" in str(error)
            else:
                assert done.written + len(done.left_out) == len(rows)


def curated(path: str, out: Path) -> int:
    done = curate(path, out, RULES)
    return done.kept + sum(step.left_out for step in done.steps)


def mixed(path: str, out: Path) -> int:
    done = mix_files([path], out, kind="demonstrations")
    return sum(done.taken.values()) + sum(done.unusable.values())


def divided(path: str, out: Path) -> int:
    done = split_files(path, out, {"held": 1.0})
    return sum(sum(part.values()) for part in done.counts.values()) + len(done.left_out)


@settings(QUICK, max_examples=25)
@given(rows=SHAPED)
def test_every_verb_accounts_for_every_row_that_can_be_read(rows: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "a.jsonl", Path(folder) / "out"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for count in (curated, mixed, divided):
            try:
                seen = count(str(path), out)
            except PalateError as error:
                assert "\n" not in str(error)
            else:
                assert seen >= len(rows)  # a row may make several records, never none without a word


@settings(QUICK, max_examples=25)
@given(text=st.text(max_size=30), mark=st.booleans(), ends=st.sampled_from(["\n", "\r\n"]), bad=st.booleans())
def test_marks_line_ends_and_broken_utf_8(text: str, mark: bool, ends: str, bad: bool) -> None:
    rows = [{"prompt": f"q{n} {text}", "chosen": "a", "rejected": "b"} for n in range(3)]
    content = "".join(json.dumps(row, ensure_ascii=False) + ends for row in rows).encode("utf-8", "surrogatepass")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + content + (b'{"prompt": "\xff"}' if bad else b""))
        seen = outcome(path, PreferencePair)
        if bad:
            assert isinstance(seen, str)
            assert "not UTF-8" in seen
            assert "line 4" in seen
        else:
            assert seen == (3, 3, 0)


@QUICK
@given(rows=SHAPED, cut=st.floats(0.05, 0.95), kind=st.sampled_from(["gz", "zst", "parquet", "jsonl"]))
def test_truncated_files_are_refused_or_short_but_never_silent(rows: list[Any], cut: float, kind: str) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with tempfile.TemporaryDirectory() as folder:
        if kind == "parquet":
            whole = Path(folder) / "whole.parquet"
            pq.write_table(pa.table({"prompt": [json.dumps(row) for row in rows]}), whole)
            content, name = whole.read_bytes(), "cut.parquet"
        else:
            packed = {"gz": gzip.compress(text), "zst": zstd.compress(text), "jsonl": text}
            content, name = packed[kind], "cut.jsonl" + ("" if kind == "jsonl" else f".{kind}")
        path = Path(folder) / name
        path.write_bytes(content[: max(1, int(cut * len(content)))])
        seen = outcome(path, None)
        if kind != "jsonl":
            assert isinstance(seen, str)


@QUICK
@given(rows=st.lists(st.lists(st.text(max_size=12), min_size=3, max_size=3), min_size=1, max_size=5))
def test_any_text_survives_csv(rows: list[list[str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["prompt", "chosen", "rejected"], *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(stream.getvalue().encode())
        read = [tuple(row.values()) for _, row in open_source(str(path)).rows()]
        assert read == [tuple(row) for row in rows]


def test_a_line_of_ten_megabytes(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a " * 2_500_000, "rejected": "b " * 2_500_000}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "chosen": "short"}) + "\n")
    assert outcome(tmp_path / "a.jsonl", PreferencePair) == (2, 2, 0)


def test_nested_nulls_and_mixed_types(tmp_path: Path) -> None:
    deep: Any = None
    for _ in range(200):
        deep = [deep]
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "more": deep}, {"prompt": deep, "chosen": "a", "rejected": "b"},
            {"prompt": {"role": None}, "chosen": 1, "rejected": True}]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert outcome(tmp_path / "a.jsonl", PreferencePair) == (3, 1, 2)
    assert convert(str(tmp_path / "a.jsonl"), tmp_path / "b.parquet").written == 1
