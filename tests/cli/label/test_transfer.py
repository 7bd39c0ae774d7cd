"""`palate label import`: files into a store, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.main import main
from palate.feedback.transfer import candidates_in, votes_in
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
