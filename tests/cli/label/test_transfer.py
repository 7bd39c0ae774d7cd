"""`palate label import` and `export`: from files into a store, and from both to training data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import palate
from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.feedback.candidates import read_candidates
from palate.feedback.transfer import candidates_in, votes_in
from palate.feedback.votes import read_votes
from palate.store import open_store
from runs import write_rows

ROWS = [{"id": f"p:{number}", "prompt": "q", "completions": ["a", "b"]} for number in range(3)]
VOTES = [
    {"item": "p:1", "left": 0, "right": 1, "outcome": "left", "who": "length", "when": "2026-01-31T12:00:00Z"}
    | {"shown": shown, "reason": "", "probability_left": None}
    for shown in ("left_first", "right_first")
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with candidates and votes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PALATE_STORE", raising=False)
    write_rows(tmp_path / "c.jsonl", ROWS)
    write_rows(tmp_path / "v.jsonl", VOTES)
    return tmp_path


def test_candidates_and_votes_are_imported_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["label", "import", "--candidates", "c.jsonl", "--votes", "v.jsonl"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        "store                palate.db",
        "campaign             default (new)",
        "candidates           3 new, 0 there already",
        "votes                2 new, 0 there already",
    ]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "store": "palate.db",
        "campaign": "default",
        "created": False,
        "candidates": {"new": 0, "same": 3},
        "votes": {"new": 0, "same": 2},
    }


def test_the_store_and_the_campaign_are_options(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", "import", "--candidates", "c.jsonl", "--store", "x.db", "--campaign", "helpful"]) == 0
    monkeypatch.setenv("PALATE_STORE", "x.db")
    assert main(["label", "import", "--votes", "v.jsonl"]) == 0, "the store's only campaign"
    store = open_store("x.db")
    assert [row.id for row in store.read(lambda session: candidates_in(session, "helpful"))] == ["p:0", "p:1", "p:2"]
    assert [vote.shown for vote in store.read(lambda session: votes_in(session, "helpful"))] == [
        "left_first",
        "right_first",
    ]
    store.close()
    assert not (files / "palate.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "name --candidates FILE, --votes FILE, or both"),
        (["--candidates", "absent.jsonl"], 2, "absent.jsonl: no such file"),
        (["--votes", "v.jsonl"], 1, "on p:1: the campaign default has no such candidates"),
        (["--candidates", "v.jsonl"], 1, "v.jsonl:1: has no list of completions"),
        (["--candidates", "c.jsonl", "--store", "no/x.db"], 1, "the folder"),
        (["--candidates", "c.jsonl", "--store", "mysql://me:CANARY@h/d"], 1, "mysql is not supported"),
        (["--candidates", "c.jsonl", "--store", "postgresql://me:CANARY@127.0.0.1:1/d"], 1, "127.0.0.1:1/d: "),
        (["--candidates", "c.jsonl", "--campaign", "a/b"], 2, "campaign 'a/b'"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert main(["label", "import", *arguments]) == code
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    assert said in line
    assert "CANARY" not in line
    assert printed.out == ""


@pytest.fixture
def given_files(tmp_path: Path) -> list[str]:
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
    given_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.jsonl"
    assert export(*given_files, "--to", "trl", "-o", str(out)) == 0
    printed = capsys.readouterr().out
    assert "rows                 1 in" in printed
    assert "conflict rate        0.0% of 1 comparison with two votes or more" in printed
    assert "votes left out       1 identity_leak" in printed
    assert "not in the file      1 both_bad" in printed
    assert len(palate.load_preferences(str(out)).records) == 1
    assert export(*given_files, "--to", "palate", "-o", str(out), "--with-identity-leaks", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["rows"], done["conflict_rate"], done["votes_left_out"]) == (2, 0.0, {})
    assert export(*given_files, "--to", "kto", "-o", str(tmp_path / "k.jsonl")) == 0
    assert "labels               1 desirable, 3 undesirable" in capsys.readouterr().out


def test_a_store_gives_the_same_as_its_files(
    given_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", f"sqlite:///{tmp_path / 's.db'}"]
    assert main(["label", "import", *given_files, *store]) == 0
    for to in ("palate", "llamafactory", "kto"):
        (tmp_path / to).mkdir()
        assert export(*given_files, "--to", to, "-o", str(tmp_path / to / "f.jsonl")) == 0
        assert export(*store, "--to", to, "-o", str(tmp_path / to / "s.jsonl")) == 0
        rows = [read_jsonl(tmp_path / to / name) for name in ("f.jsonl", "s.jsonl")]
        for row in (*rows[0], *rows[1]):
            del row["lineage"]["source"]
        assert rows[0] == rows[1]
    assert export(*store, "--to", "votes", "-o", str(tmp_path / "v2.jsonl")) == 0
    assert read_votes(tmp_path / "v2.jsonl") == read_votes(given_files[3])
    assert export(*store, "--to", "candidates", "-o", str(tmp_path / "c2.jsonl")) == 0
    assert read_candidates(tmp_path / "c2.jsonl") == read_candidates(given_files[1])
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


def test_files_and_store_together_are_refused(given_files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert export(*given_files, "--campaign", "c", "--to", "trl", "-o", "x.jsonl") == 2
    assert "not both" in capsys.readouterr().err
