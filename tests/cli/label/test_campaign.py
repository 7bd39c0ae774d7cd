"""Campaigns by the command line: created, changed, assigned, and their status."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import select

from labelling import START, Labelling
from palate.cli.main import main
from palate.feedback.campaigns.campaign import CampaignSchema, current_schema, find_campaign
from palate.store import open_store
from palate.store.tables import Lease, User
from runs import write_rows


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    address = f"sqlite:///{tmp_path / 'palate.db'}"
    monkeypatch.setenv("PALATE_STORE", address)
    return address


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    rows = [{"id": f"i{number}", "prompt": "q", "completions": ["long", "short", "mid"]} for number in range(4)]
    return write_rows(tmp_path / "c.jsonl", rows)


def schema(url: str, name: str) -> CampaignSchema:
    store = open_store(url)
    try:
        return store.read(lambda session: current_schema(session, find_campaign(session, name).id))
    finally:
        store.close()


def test_a_campaign_from_file_and_options(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "schema.yaml"
    file.write_text("criteria: Be kind.\ntags: [rude, long]\nvotes_per_item: 2\norder: random\n")
    assert main(["label", "create", "help", "--schema", str(file), "--votes-per-item", "3", "--dimension", "tone"]) == 0
    assert "campaign help created" in capsys.readouterr().out
    assert schema(url, "help") == CampaignSchema("Be kind.", ("rude", "long"), ("tone",), 3)
    assert main(["label", "create", "help", "--update", "--gold-share", "0.1"]) == 0
    assert "schema version 2" in capsys.readouterr().out
    assert schema(url, "help") == CampaignSchema("Be kind.", ("rude", "long"), ("tone",), 3, 0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("votes_per_itm: 2\n", "schema.yaml: unknown key votes_per_itm; did you mean votes_per_item?"),
        ("- a\n", "a schema is a list of `key: value` lines"),
        ("gold_share: 2\n", "schema.yaml: gold_share: 2.0 must be a share"),
    ],
)
def test_a_wrong_schema_is_one_line(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    file = tmp_path / "schema.yaml"
    file.write_text(text)
    assert main(["label", "create", "help", "--schema", str(file)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_assign_makes_tasks_with_gold_and_reserves_some(
    url: str, candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experts = write_rows(
        tmp_path / "experts.jsonl",
        [
            {"item": "i1", "left": 0, "right": 2, "outcome": "left", "who": "eve", "when": "2026-01-31T12:00:00Z",
             "shown": "left_first", "kind": "person"}
        ],
    )  # fmt: skip
    assert main(["label", "create", "help", "--per-prompt", "2"]) == 0
    assert main(["label", "import", "--candidates", str(candidates), "--campaign", "help"]) == 0
    capsys.readouterr()
    assert main(["label", "assign", "help", "--gold", str(experts), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["gold"] == 1
    assert made["new"] in (8, 9), "the gold pair may be one of the two of its prompt"
    assert main(["label", "assign", "help", "--person", "ann"]) == 2
    assert "there is no person ann" in capsys.readouterr().err
    store = open_store(url)
    store.write(lambda session: session.add(User(name="ann", role="annotator", created=START)))
    assert main(["label", "assign", "help", "--person", "ann", "--tasks", "3", "--days", "2"]) == 0
    assert re.search(r"3 tasks reserved for ann until \d{4}-\d\d-\d\d \d\d:\d\d UTC", capsys.readouterr().out)
    assert store.read(lambda session: len(session.scalars(select(Lease)).all())) == 3
    assert main(["label", "assign", "help", "--person", "ann", "--tasks", "1"]) == 0
    assert capsys.readouterr().out.startswith("1 task reserved")
    store.close()


def test_assign_without_candidates_says_what_to_do(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "create", "help"]) == 0
    assert main(["label", "assign", "help"]) == 1
    assert "add some with `palate label import`" in capsys.readouterr().err
    assert main(["label", "assign", "halp"]) == 2
    assert "no campaign halp; there are help" in capsys.readouterr().err


def test_status_is_a_table_of_80_columns(
    url: str, candidates: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["label", "create", "c", "--votes-per-item", "2"]) == 0
    assert main(["label", "import", "--candidates", str(candidates)]) == 0
    assert main(["label", "assign", "c"]) == 0
    store = open_store(url)

    def add(session) -> int:  # type: ignore[no-untyped-def]
        user = User(name="a person of forty characters, and no more", role="annotator", created=START)
        session.add(user)
        session.flush()
        return user.id

    work = Labelling(store, [store.write(add)])
    for choice in ("first", "first", "tie", "skip", "flag"):
        work.label(choice=choice, seconds=20.0)  # type: ignore[arg-type]
    store.close()
    capsys.readouterr()
    assert main(["label", "status", "--campaign", "c"]) == 0
    said = capsys.readouterr().out
    assert "votes     3 of 24" in said
    assert "0 of 12 finished" in said
    row = next(line for line in said.splitlines() if line.startswith("a person"))
    assert row.split()[-8:] == ["3", "1", "1", "180", "100%", "0.5", "–", "–"]
    assert main(["label", "status", "--json"]) == 0
    [campaign] = json.loads(capsys.readouterr().out)["campaigns"]
    assert (campaign["votes"], campaign["wanted"], campaign["people"][0]["left_share"]["n"]) == (3, 24, 2)
    monkeypatch.setattr("palate.cli.columns.text_width", lambda: 80)
    assert main(["label", "status"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_status_says_how_far_people_agree(url: str, candidates: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "create", "c", "--votes-per-item", "2"]) == 0
    assert main(["label", "import", "--candidates", str(candidates)]) == 0
    assert main(["label", "assign", "c"]) == 0
    store = open_store(url)

    def add(session) -> list[int]:  # type: ignore[no-untyped-def]
        users = [User(name=name, role="annotator", created=START) for name in ("ann", "bob")]
        session.add_all(users)
        session.flush()
        return [user.id for user in users]

    work = Labelling(store, store.write(add))
    for number in range(4):
        work.label(0, choice="both_bad" if number else "tie")
        work.label(1, choice="both_bad" if number else "flag")
    work.label(1, choice="tie")
    store.close()
    capsys.readouterr()
    assert main(["label", "status"]) == 0
    said = capsys.readouterr().out
    assert "agreement 1.00" in said
    assert "on 3 tasks with votes of several people" in said
    assert "α         undefined: all ratings are of one category" in said


def test_status_without_a_campaign(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "status"]) == 2
    assert "there is no such database" in capsys.readouterr().err
    open_store(url).close()
    assert main(["label", "status"]) == 2
    assert "create one with `palate label create`" in capsys.readouterr().err
