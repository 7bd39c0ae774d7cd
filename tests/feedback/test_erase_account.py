"""A person who labels is in no table, file or free page afterwards; the votes stay those of one person."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from labelling import START, Labelling, labelling
from palate.artifacts import iter_jsonl
from palate.cli.main import main
from palate.errors import UsageError
from palate.feedback.erase_account import erase_account
from palate.store import Store
from palate.store.loop_tables import CanaryMove, GateDecision, GateRun
from palate.store.personal import inventory
from palate.store.registry_tables import AliasMove, ModelVersion
from palate.store.tables import Base, CampaignVersion, LoginSession, StoredJudgeCard, User, VoteRow

CANARY = "canary.9d2b41"
WORDS = "I preferred this one, says the canary"


def everything(store: Store) -> str:
    """All rows of all tables."""
    return repr(store.read(lambda s: [s.execute(select(table)).all() for table in Base.metadata.sorted_tables]))


def fill(store: Store) -> Labelling:
    """Two people's votes, one of them under the canary's name, and that name in every column that holds names."""
    if store.is_sqlite:  # some systems build it so that it always zeroes what it replaces
        event.listen(store.engine, "connect", lambda driver, _: driver.execute("PRAGMA secure_delete=OFF"))
        store.engine.dispose()
    work = labelling(store, people=2, votes_per_item=2)

    def rename(session: Any) -> None:
        user = session.get(User, work.people[0])
        user.name, user.password_hash = CANARY, "argon2"
        session.add(LoginSession(token_hash="t", user_id=user.id, created=START, expires=START + timedelta(hours=1)))
        session.scalars(select(CampaignVersion)).one().who = CANARY
        version = ModelVersion(name="v1.0", content_hash="h", kind="model", folder="/m", files={}, lineage={},
                               who=CANARY, complete=True, created=START)  # fmt: skip
        gate = GateRun(candidate="v1.0", incumbent="v0.9", outcome="PASS", config_hash="c", content_hash="g",
                       verdict={}, at=START)  # fmt: skip
        session.add_all([version, gate])
        session.flush()
        card = {"annotators": [{"name": CANARY, "votes": 3}], "people": {CANARY: [1, 2]}}
        session.add_all([
            StoredJudgeCard(judge="j", content_hash="k", card=card, at=START),
            AliasMove(alias="production", version_id=version.id, action="promote", who=CANARY, reason="r", at=START),
            GateDecision(gate_run_id=gate.id, action="sign", who=CANARY, reason="r", at=START),
            CanaryMove(alias="production", version_id=version.id, share=0.1, who=CANARY, reason="r", at=START),
        ])  # fmt: skip

    store.write(rename)
    for person in (0, 1):
        for _ in range(3):
            work.label(person, reason=WORDS if person == 0 else "shorter")
    return work


def columns_with(store: Store, name: str) -> set[tuple[str, str]]:
    """Table and column of every cell that has a text."""
    found = set()
    for table in Base.metadata.sorted_tables:
        for row in store.read(lambda session, table=table: session.execute(select(table)).mappings().all()):
            found |= {(table.name, column) for column, value in row.items() if name in json.dumps(value, default=str)}
    return found


def test_nothing_of_an_erased_account_is_left(store: Store, tmp_path: Path) -> None:
    work = fill(store)
    names = {(table, column) for table, kinds in inventory(Base.metadata).items() for column, kind in kinds.items()
             if kind == "account"}  # fmt: skip
    assert columns_with(store, CANARY) == names, "the test reaches every column that the schema declares"
    voted = [{"id": f"v{n}", "who": who, "reason": WORDS, "kind": "person"} for n, who in enumerate((CANARY, "p1"))]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in voted))
    (tmp_path / "card.json").write_text(json.dumps({"annotators": {CANARY: 0.9}}))
    before = work.votes()

    done = erase_account(store, CANARY, files=[tmp_path / "votes.jsonl", tmp_path / "card.json"])
    assert done.rows == {table: 3 if table == "votes" else 1 for table, _ in names}
    assert {Path(name).name: count for name, count in done.files.items()} == {"votes.jsonl": 1, "card.json": 1}
    assert done.remaining == []
    left = everything(store)
    assert CANARY not in left
    assert WORDS not in left
    assert columns_with(store, done.pseudonym) == names
    after = work.votes()
    assert [vote.who.replace(done.pseudonym, CANARY) for vote in after] == [vote.who for vote in before]
    assert [(vote.outcome, vote.when) for vote in after] == [(vote.outcome, vote.when) for vote in before]
    assert [vote.reason for vote in after if vote.who == "p1"] == ["shorter"] * 3
    user = store.read(lambda session: session.get(User, work.people[0]))
    assert (user.active, user.password_hash) == (False, "")
    assert store.read(lambda session: session.scalars(select(LoginSession)).all()) == []
    rows = list(iter_jsonl(tmp_path / "votes.jsonl"))
    assert [(row["who"], row["reason"]) for row in rows] == [(done.pseudonym, ""), ("p1", WORDS)]
    with pytest.raises(UsageError, match="no account, vote or decision has this name"):
        erase_account(store, CANARY)
    store.close()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "votes.jsonl":
            assert CANARY.encode() not in path.read_bytes(), path
            assert WORDS.encode() not in path.read_bytes(), path
    assert CANARY not in (tmp_path / "votes.jsonl").read_text()


def test_what_remains_is_listed(sqlite_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(sqlite_store)
    url = sqlite_store.url
    copy = Path(f"{url}.schema-0001")
    copy.write_bytes(b"old")
    (tmp_path / "votes.csv").write_text(f"who\n{CANARY}\n")
    sqlite_store.close()
    command = ["label", "users", "erase", CANARY, "--files", str(tmp_path / "votes.csv"), "--yes", "--store", url]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert f"{CANARY} is erased-" in out
    assert "votes" in out
    said = " ".join(err.split())
    assert "votes.csv: only .jsonl and .json files can be changed" in said
    assert "a copy from before an upgrade may have the name" in said
    assert main(["label", "users", "erase", "p1", "--with-copies", "--yes", "--store", url]) == 0
    assert not copy.exists()


def test_a_voter_of_imported_files_needs_no_account(sqlite_store: Store) -> None:
    work = fill(sqlite_store)

    def imported(session: Any) -> None:
        row = session.scalars(select(VoteRow).where(VoteRow.user_id == work.people[1])).first()
        row.who, row.user_id = "guest", None

    sqlite_store.write(imported)
    done = erase_account(sqlite_store, "guest")
    assert done.rows == {"votes": 1}
    assert [vote.reason for vote in work.votes() if vote.who == done.pseudonym] == [""]
