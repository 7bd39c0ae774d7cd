"""Every reader: what it accepts, and the one line with which it refuses a file that is broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.sources.readers import file_type, read_rows, zstd
from palate.data.turns.cells import RowError
from palate.errors import DataError

ROWS = [{"prompt": f"Frage {n} – ünïcode 你好", "chosen": "a\u2028b", "rejected": "c\r\nd"} for n in range(1, 4)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def rows_of(path: Path) -> list[Any]:
    return [row for _, row in read_rows(path)]


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.jsonl", LINES.encode()),
        ("mark.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
        ("windows.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("blank.jsonl", ("\n \n" + LINES.replace("\n", "\n\n")).encode()),
        ("open.jsonl", LINES.rstrip("\n").encode()),
        ("packed.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("packed.jsonl.zst", zstd.compress(LINES.encode())),
        ("two_frames.jsonl.zst", zstd.compress(LINES[:50].encode()) + zstd.compress(LINES[50:].encode())),
        ("lines.json", LINES.encode()),
        ("lines.ndjson", LINES.encode()),
        ("array.json", json.dumps(ROWS).encode()),
        ("pretty.json", json.dumps(ROWS, indent=2).encode()),
        ("mark.json", b"\xef\xbb\xbf" + json.dumps(ROWS, indent=2).encode()),
        ("array.jsonl", json.dumps(ROWS).encode()),
        ("pretty.jsonl", json.dumps(ROWS, indent=1).encode()),
        ("under_a_key.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        ("columns.json", json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode()),
        (
            "pandas.json",
            json.dumps({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}).encode(),
        ),
    ],
)
def test_json_in_all_its_forms(tmp_path: Path, name: str, content: bytes) -> None:
    assert rows_of(written(tmp_path, name, content)) == ROWS


def test_lines_count_as_in_an_editor_and_array_rows_from_one(tmp_path: Path) -> None:
    lines = written(tmp_path, "a.jsonl", '\n{"a": 1}\n\n{"a": 2}\n')
    array = written(tmp_path, "a.json", '[\n{"a": 1},\n\n{"a": 2}]')
    assert [number for number, _ in read_rows(lines)] == [2, 4]
    assert [number for number, _ in read_rows(array)] == [1, 2]


def test_an_object_of_turns_is_one_row_not_a_table(tmp_path: Path) -> None:
    row = {"chosen": [{"role": "user", "content": "q"}], "rejected": [{"role": "user", "content": "q"}]}
    assert rows_of(written(tmp_path, "one.json", json.dumps(row, indent=1))) == [row]
    sides = {"chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}
    assert rows_of(written(tmp_path, "sides.json", json.dumps(sides, indent=1))) == [sides]


def test_csv_and_tsv(tmp_path: Path) -> None:
    text = (
        'prompt,chosen,rejected\r\n"a, ""b""","two\nlines",x\r\n\r\nq,"[{""role"": ""user"", ""content"": ""c""}]",\r\n'
    )
    expected = [
        {"prompt": 'a, "b"', "chosen": "two\nlines", "rejected": "x"},
        {"prompt": "q", "chosen": '[{"role": "user", "content": "c"}]', "rejected": ""},
    ]
    assert rows_of(written(tmp_path, "a.csv", "\ufeff" + text)) == expected
    assert rows_of(written(tmp_path, "a.csv.gz", gzip.compress(text.encode()))) == expected
    assert rows_of(written(tmp_path, "a.tsv", "prompt\tchosen\n1\t[0]\n")) == [{"prompt": "1", "chosen": "[0]"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "\ufeffprompt;chosen\r\nq;a, b\r\n"),
        ("a.csv", "prompt\tchosen\nq\ta, b\n"),
        ("a.csv", "sep=|\nprompt|chosen\nq|a, b\n"),
        ("a.tsv", 'prompt,chosen\nq,"a, b"\n'),
        ("a.csv", 'prompt,chosen\nq,"a, b"\n'),
    ],
)
def test_the_delimiter_is_found(tmp_path: Path, name: str, text: str) -> None:
    assert rows_of(written(tmp_path, name, text)) == [{"prompt": "q", "chosen": "a, b"}]


def test_one_column_stays_one_column(tmp_path: Path) -> None:
    assert rows_of(written(tmp_path, "a.csv", "text\na; b\n")) == [{"text": "a; b"}]
    with pytest.raises(DataError, match=r"a.csv, line 4: broken CSV"):
        rows_of(written(tmp_path, "a.csv", 'sep=;\na;b\n1;2\n"1;2\n'))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(["q"]), pa.array(["a"]), pa.array(["b"])], names=["prompt", "chosen", "chosen"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    for name in ("a.parquet", "a.arrow"):
        with pytest.raises(DataError, match="the column 'chosen' occurs twice; rename one of them"):
            rows_of(tmp_path / name)


def test_a_csv_row_with_missing_cells_is_a_row_fault(tmp_path: Path) -> None:
    bad, good = rows_of(written(tmp_path, "a.csv", "prompt,chosen\nonly\nq,a\n"))
    assert isinstance(bad, RowError)
    assert (bad.reason, bad.detail) == (
        "wrong_cell_count",
        "1 cells under 2 columns; the delimiter is ',', quote cells that contain it",
    )
    assert good == {"prompt": "q", "chosen": "a"}


def test_a_key_that_stands_twice_is_a_row_fault(tmp_path: Path) -> None:
    for name, content in (
        ("a.jsonl", '{"a": 1, "b": {"c": 1, "c": 2}}\n{"a": 1}\n'),
        ("a.json", '[{"a":1,"a":2},{"a":1}]'),
    ):
        bad, good = rows_of(written(tmp_path, name, content))
        assert isinstance(bad, RowError)
        assert bad.reason == "key_twice"
        assert good == {"a": 1}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", LINES + '{"prompt": "x"\n' + LINES, ", line 4: broken JSON: Expecting ',' delimiter"),
        ("a.jsonl", LINES + '{"prompt": "x', ", line 4: broken JSON: Unterminated string; the file seems"),
        ("a.jsonl", '{"a": 1} {"b": 2}\n{}\n', ", line 1: broken JSON: something follows the value"),
        ("a.jsonl", LINES.encode() + b'{"a": "\xff"}\n', ", line 4: not UTF-8 (byte 0xff at column 8); save"),
        ("a.jsonl", '{"a": "x"}\n'.encode("utf-16"), ", line 1: not UTF-8"),
        ("a.jsonl", '{"a": ' + "[" * 100_000, ", line 1: broken JSON: nested too deep"),
        ("a.jsonl", '{"a": 1}\n{"a": ' + "9" * 5000 + "}\n", ", line 2: broken JSON: Exceeds the limit"),
        ("a.json", '[{"a": 1},\n{"a": 2}\n{"a": 3}]', ", line 3: broken JSON: expected ',', found '{'"),
        ("a.json", '[{"a": 1},\n{"a": 2}', ", line 2: broken JSON: expected ',', found nothing; the file seems"),
        (
            "a.json",
            '[{"a": 1},\n\n{"a": ',
            ", line 3: broken JSON: Expecting value; the file seems to be truncated",
        ),
        ("a.json", '[{"a": 1},\n{"a" 2},' + " " * 99 + "{}]", ", line 2: broken JSON: Expecting ':' delimiter"),
        ("a.json", '[{"a": 1}] x', ", line 1: broken JSON: something follows the array"),
        ("a.json", '{"a": 1', ", line 1: broken JSON: Expecting ',' delimiter"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-20], ": the compressed file is damaged or truncated"),
        ("a.jsonl.gz", b"no gzip at all", ": the compressed file is damaged or truncated"),
        ("a.jsonl.zst", zstd.compress(LINES.encode() * 99)[:-9], ": the compressed file is damaged or truncated"),
        ("a.jsonl.zst", b"no zstandard", ": the compressed file is damaged or truncated"),
        ("a.csv", 'prompt,chosen\na,"b', ", line 2: broken CSV: unexpected end of data"),
        ("a.csv", "a,b,a\n1,2,3\n", ": the header names the column 'a' twice"),
        ("a.csv", b"a,b\n1,\xe9\n", ", line 2: not UTF-8 (byte 0xe9 at column 3)"),
        ("a.parquet", b"PAR1 no parquet", ": not a complete Parquet file (at its start)"),
        ("a.arrow", b"no arrow", ": not a complete Arrow file (at its start)"),
        ("a.parquet", b"", ": not a complete Parquet file (at its start)"),
        ("a.arrow", b"", ": not a complete Arrow file (at its start)"),
        ("a.xlsx", b"", ": unknown type of file; palate reads .jsonl, .json, .csv, .tsv, .parquet, .arrow"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_that_says_where(
    tmp_path: Path, name: str, content: bytes | str, says: str
) -> None:
    assert refusal(written(tmp_path, name, content)).startswith(says)


def test_rows_before_the_break_are_read_first(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", json.dumps(ROWS)[:-1] + ",\n{broken}]")
    rows = read_rows(path)
    assert [next(rows)[1] for _ in ROWS] == ROWS
    with pytest.raises(DataError, match=r"line 2: broken JSON: Expecting property name enclosed in double quotes$"):
        next(rows)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.jsonl") == ": cannot be read: No such file or directory"


def test_an_array_row_longer_than_any_chunk(tmp_path: Path) -> None:
    rows = [{"text": "x" * 3_000_000}, {"number": 12345}, {"text": "y\\" * 1_000_000}, 1234567, 12]
    path = written(tmp_path, "long.json", json.dumps(rows))
    assert rows_of(path) == rows


def test_numbers_at_the_edge_of_a_chunk_stay_whole(tmp_path: Path) -> None:
    rows = list(range(1_000_000, 1_100_000))
    assert rows_of(written(tmp_path, "numbers.json", json.dumps(rows))) == rows


def test_parquet_and_arrow(tmp_path: Path) -> None:
    rows = [{"n": n, "turns": [{"role": "user", "content": "x"}], "none": None} for n in range(2500)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    with pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "stream.arrow", "file.arrow"):
        numbered = list(read_rows(tmp_path / name))
        assert [row for _, row in numbered] == rows
        assert [number for number, _ in numbered] == list(range(1, 2501))
    for name in ("a.parquet", "stream.arrow"):
        whole = (tmp_path / name).read_bytes()
        cut = written(tmp_path, f"cut.{name.split('.')[1]}", whole[: len(whole) // 2])
        assert "not a complete" in refusal(cut)


def test_file_types_by_name() -> None:
    names = ["a.JSONL", "b.x.json.gz", "c.csv.zst", "d.pq", "e.ndjson", "f.txt", "g", "h.gz", "jsonl"]
    assert [file_type(Path(name)) for name in names] == [
        "jsonl", "json", "csv", "parquet", "jsonl", None, None, None, None,
    ]  # fmt: skip
