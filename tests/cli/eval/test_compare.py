"""`palate eval compare` on logs of three programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.main import main


def log(path: Path, right: set[int], *, count: int = 12, extra: int | None = None) -> str:
    ids = [*range(count), *([extra] if extra is not None else [])]
    rows = [
        {"doc_id": i, "doc": {"q": i}, "resps": [], "doc_hash": f"h{i}", "metrics": ["acc"], "acc": float(i in right)}
        for i in ids
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_table_names_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = log(tmp_path / "before.jsonl", set(range(3)), extra=50)
    second = log(tmp_path / "after.jsonl", set(range(9)))
    assert main(["eval", "compare", first, second]) == 0
    out = capsys.readouterr().out
    assert "A   before\nB   after\nn   12 items in both results\n    1 only in A, left out: 50\n" in out
    assert "acc     0.250  0.750  +0.500" in out
    assert "0.016" in out  # mid-p of 6 against 0: 2 · ½ · 2⁻⁶ = 1/64
    assert "acc: McNemar mid-p, Newcombe's interval, 12 items; higher in 6, lower in 0" in out
    assert max(map(len, out.splitlines())) <= 110


def test_a_terminal_of_80_columns_shows_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.cli.columns.text_width", lambda: 80)
    first, second = log(tmp_path / "a.jsonl", {1}), log(tmp_path / "b.jsonl", {1, 2})
    assert main(["eval", "compare", first, second]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "+0.083" in out


def test_machines_get_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = log(tmp_path / "a.jsonl", {1}), log(tmp_path / "b.jsonl", {1, 2})
    assert main(["eval", "compare", first, second, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["items"], found["metrics"][0]["found"]["higher"]) == (12, 1)
    assert found["first_path"] == first


def test_notes_and_errors_are_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = log(tmp_path / "a.jsonl", {1})
    twice = tmp_path / "b.jsonl"
    twice.write_text(Path(first).read_text() * 2)
    assert main(["eval", "compare", first, str(twice)]) == 0
    told = capsys.readouterr().err
    assert "note: second: 12 items were measured more than once (epochs)" in told
    assert "note: both results are equal on every item: a model compared with itself?" in told
    assert main(["eval", "compare", first, log(tmp_path / "d.jsonl", {2})]) == 0
    assert "itself" not in capsys.readouterr().err
    (tmp_path / "c.json").write_text("{}")
    assert main(["eval", "compare", first, str(tmp_path / "c.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
