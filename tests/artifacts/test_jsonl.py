"""JSON lines survive a kill at any byte."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from palate.artifacts import JsonlWriter, read_jsonl
from palate.errors import ArtifactError


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.jsonl"
    rows = [{"step": 1, "loss": 0.5, "text": "line\nbreak \u2028"}, {"step": 2, "loss": None}]
    with JsonlWriter(path, sync=True) as writer:
        for row in rows:
            writer.write(row)
            assert read_jsonl(path)[-1] == row  # visible at once, not at close
    assert read_jsonl(path) == rows


def test_appending_and_starting_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for append, expected in [(True, [1]), (True, [1, 1]), (False, [1])]:
        with JsonlWriter(path, append=append) as writer:
            writer.write({"n": 1})
        assert [row["n"] for row in read_jsonl(path)] == expected


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_file_torn_at_any_byte_reads_and_continues(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"a": "é€"})
        writer.write({"b": "second"})
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    whole = content[:-cut].count(b"\n")
    kept = read_jsonl(path)
    assert kept[:whole] == [{"a": "é€"}, {"b": "second"}][:whole]
    with JsonlWriter(path) as writer:
        writer.write({"c": 3})
    assert read_jsonl(path) == [*[{"a": "é€"}, {"b": "second"}][:whole], {"c": 3}]


def test_a_line_that_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"b": ')
    assert read_jsonl(path) == [{"a": 1}]
    assert caplog.messages == [f"{path}:2: the line is incomplete and left out"]


def test_a_long_torn_tail_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\n{"torn": "' + b"x" * 200_000)
    JsonlWriter(path).close()
    assert path.read_bytes() == b'{"a": 1}\n'


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(ArtifactError, match=r"m\.jsonl:2: not valid JSON"):
        read_jsonl(path)
    path.write_text('{"a": 1}\n{"a": \n')  # a killed writer leaves no line break
    with pytest.raises(ArtifactError, match=r"m\.jsonl:2: not valid JSON"):
        read_jsonl(path)
    path.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(ArtifactError, match=r"m\.jsonl:2: expected a JSON object, found list"):
        read_jsonl(path)


def test_a_row_that_the_disk_has_no_room_for_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JsonlWriter(path, sync=True) as writer:
        writer.write({"n": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
        try:
            with pytest.raises(ArtifactError, match=r"m\.jsonl: "):
                writer.write({"text": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.write({"n": 2})
    assert path.read_text() == '{"n": 1}\n{"n": 2}\n'


def test_a_killed_writer_loses_at_most_the_row_it_was_writing(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    script = (
        "import itertools\nfrom palate.artifacts import JsonlWriter\n"
        f"w = JsonlWriter(r'{path}')\n"
        "for n in itertools.count():\n    w.write({'n': n})\n    print(n, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(200)]
        os.kill(process.pid, signal.SIGKILL)
    rows = [row["n"] for row in read_jsonl(path)]
    assert rows == list(range(len(rows)))
    assert len(rows) > seen[-1]
