"""`palate label export`: from files and from a store, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import palate
from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.feedback.candidates import read_candidates
from palate.feedback.votes import read_votes


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    candidates, votes = tmp_path / "c.jsonl", tmp_path / "v.jsonl"
    rows = [{"id": f"p{n}", "prompt": f"q{n}", "completions": [f"good {n}", f"bad {n}"]} for n in range(3)]
    candidates.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = {"left": 0, "right": 1, "when": "2026-01-31T12:00:00Z", "shown": "left_first", "kind": "person"}
    cast = [
        {"item": "p0", "outcome": "left", "who": "a", **shared},
        {"item": "p0", "outcome": "left", "who": "b", **shared},
        {"item": "p1", "outcome": "both_bad", "who": "a", **shared},
        {"item": "p2", "outcome": "left", "who": "a", **shared, "identity_leak": True},
    ]
    votes.write_text("".join(json.dumps(row) + "\n" for row in cast))
    return ["--candidates", str(candidates), "--votes", str(votes)]


def export(*words: str) -> int:
    return main(["label", "export", *words])


def test_files_become_pairs_and_the_summary_says_what_is_left_out(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.jsonl"
    assert export(*files, "--to", "trl", "-o", str(out)) == 0
    printed = capsys.readouterr().out
    assert "rows                 1 in" in printed
    assert "conflict rate        0.0% of 1 comparison with two votes or more" in printed
    assert "votes left out       1 identity_leak" in printed
    assert "not in the file      1 both_bad" in printed
    assert len(palate.load_preferences(str(out)).records) == 1
    assert export(*files, "--to", "palate", "-o", str(out), "--with-identity-leaks", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["rows"], done["conflict_rate"], done["votes_left_out"]) == (2, 0.0, {})
    assert export(*files, "--to", "kto", "-o", str(tmp_path / "k.jsonl")) == 0
    assert "labels               1 desirable, 3 undesirable" in capsys.readouterr().out


def test_a_store_gives_the_same_as_its_files(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", f"sqlite:///{tmp_path / 's.db'}"]
    assert main(["label", "import", *files, *store]) == 0
    for to in ("palate", "llamafactory", "kto"):
        (tmp_path / to).mkdir()
        assert export(*files, "--to", to, "-o", str(tmp_path / to / "f.jsonl")) == 0
        assert export(*store, "--to", to, "-o", str(tmp_path / to / "s.jsonl")) == 0
        rows = [read_jsonl(tmp_path / to / name) for name in ("f.jsonl", "s.jsonl")]
        for row in (*rows[0], *rows[1]):
            del row["lineage"]["source"]
        assert rows[0] == rows[1]
    assert export(*store, "--to", "votes", "-o", str(tmp_path / "v2.jsonl")) == 0
    assert read_votes(tmp_path / "v2.jsonl") == read_votes(files[3])
    assert export(*store, "--to", "candidates", "-o", str(tmp_path / "c2.jsonl")) == 0
    assert read_candidates(tmp_path / "c2.jsonl") == read_candidates(files[1])
    assert f"{tmp_path / 'c2.jsonl'}: 3 candidates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "trl", "--candidates", "c.jsonl"], "go together"),
        (["--to", "kto", "--select", "extremes"], "labels every answer"),
        (["--to", "sharegpt"], "'sharegpt' is not one of"),
        (["--to", "trl", "--store", "sqlite:///none.db"], "there is no such database"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(*words, "-o", "o.jsonl") != 0
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_files_and_store_together_are_refused(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert export(*files, "--campaign", "c", "--to", "trl", "-o", "x.jsonl") == 2
    assert "not both" in capsys.readouterr().err
