"""A forgotten person is in no table, file or free page; what cannot be deleted is listed; retention is enforced."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from palate.artifacts import file_hash
from palate.feedback.campaigns.campaign import find_campaign
from palate.feedback.campaigns.tasks import make_tasks
from palate.feedback.judges.interview import sha256
from palate.feedback.judges.render import conversation_text
from palate.feedback.transfer import import_files
from palate.records import Message
from palate.serving.from_interactions import Options, from_interactions
from palate.serving.recording import RecordedChoice
from palate.serving.recording.erasure import Erased, erase, is_known, maintain, purge
from palate.serving.recording.listing import Filter
from palate.store import Store
from palate.store.registry_tables import ModelVersion
from palate.store.serving_tables import ApiKey, Deletion, Interaction
from palate.store.tables import Base, Campaign, CampaignItem, Judgement, VoteRow
from recorded import START, Recording

CANARY = "canary7f3e91"
SYSTEM = "Answer like everybody."
PROMPT = f"Tell me about {CANARY}, please."


def everything(store: Store) -> str:
    """All rows of all tables."""
    tables = Base.metadata.sorted_tables
    return repr(store.read(lambda session: [session.execute(select(table)).all() for table in tables]))


def judged(session: Any, prompt: str, key: str) -> None:
    shown = conversation_text((Message("system", SYSTEM), Message("user", prompt)))
    request = {"contents": {"prompt": sha256(shown)}}
    session.add(Judgement(key=key, judge="j", request=request, text=f"About {prompt}", outcome="left", at=START))


def fill(store: Store, folder: Path) -> Recording:
    """Two people's interactions with feedback, an export, a campaign of it, a judge's replies, a file of --save."""
    recording = Recording(store)
    if store.is_sqlite:  # some systems build it so that it always zeroes what it deletes
        event.listen(store.engine, "connect", lambda driver, _: driver.execute("PRAGMA secure_delete=OFF"))
        store.engine.dispose()
    for user, prompt in (("ann", PROMPT), ("bob", "Tell me about cats, please.")):
        about = prompt.split()[3]
        turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
        for number in range(3):
            identifier = recording.complete(f"{about} one {number}", f"{about} two {number}", prompt=turns, user=user)
            recording.rate(identifier, thumbs="down", comment=f"no {about}")
            recording.rate(identifier, edit=f"better {about}", answer=1)
        changed = recording.reserve(prompt, user=user)  # what its first answer leaves in the file is not zeroed
        recording.recorder.update(changed, "streaming", [RecordedChoice(f"{about} " * 9_000, None)])
        recording.recorder.update(changed, "cancelled")
        store.write(lambda session, prompt=prompt, user=user: judged(session, prompt, user))
    from_interactions(store, folder / "out", Options(share_per_user=1, sample=60))
    import_files(store, folder / "out" / "candidates.jsonl", campaign="c")
    store.write(lambda session: make_tasks(session, find_campaign(session, "c")))
    saved = [
        {"conversations": [{"from": "system", "value": SYSTEM}, {"from": "human", "value": text}], "chosen": "a"}
        for text in (PROMPT, "Something else")
    ]
    (folder / "saved.jsonl").write_text("".join(json.dumps(row) + "\n" for row in saved))
    return recording


def forget(recording: Recording, user: str, **more: Any) -> Erased:
    return erase(recording.store, START, user=recording.recorder.user_hash(user, None), **more)


def test_nothing_of_a_forgotten_person_is_left(store: Store, tmp_path: Path) -> None:
    recording = fill(store, tmp_path)
    assert CANARY in everything(store)
    done = forget(recording, "ann", files=[tmp_path / "saved.jsonl"])
    assert done.rows["interactions"] == 4
    assert done.rows["items"] == done.rows["tasks"] == 3
    assert done.rows["judgements"] == 1
    assert {Path(name).name: count for name, count in done.files.items()} == {
        "pairs.jsonl": 3, "kto.jsonl": 3, "candidates.jsonl": 3, "saved.jsonl": 1,
    }  # fmt: skip
    assert done.remaining == []
    assert done.trained == []
    left = everything(store)
    assert CANARY not in left
    assert recording.recorder.user_hash("ann", None) not in left
    store.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
    manifest = json.loads((tmp_path / "out" / "data.json").read_text())
    assert manifest["counts"]["forgotten"] == 9
    assert store.read(lambda session: len(list(session.scalars(Filter().query())))) == 4, "the other person's stay"
    assert store.read(lambda session: session.scalar(select(Campaign.tasks))) == 3
    assert store.read(lambda session: session.scalar(select(Judgement.key))) == "bob"
    again = forget(recording, "ann")
    assert (again.rows, again.files) == ({}, {})


def test_rows_of_purged_interactions_are_found_by_the_person(sqlite_store: Store, tmp_path: Path) -> None:
    recording = fill(sqlite_store, tmp_path)
    assert purge(sqlite_store, START + timedelta(days=3), default_days=2) == 8

    def nest(session: Any) -> None:
        """As `palate generate` does with the columns of prompts that it reads from a candidates file."""
        for number, item in enumerate(session.scalars(select(CampaignItem))):
            item.name, item.columns = f"candidates.jsonl:{number}", {"columns": item.columns}

    sqlite_store.write(nest)
    done = forget(recording, "ann")
    assert (done.rows["items"], len(done.files)) == (3, 3)
    assert CANARY not in everything(sqlite_store)


def test_versions_that_were_trained_on_it_are_listed(sqlite_store: Store, tmp_path: Path) -> None:
    recording = fill(sqlite_store, tmp_path)
    person = recording.recorder.user_hash("ann", None)

    def vote(session: Any) -> None:
        item = session.scalars(
            select(CampaignItem).where(CampaignItem.columns[("lineage", "user")].as_string() == person)
        ).first()
        session.add(VoteRow(id="vote1", item_id=item.id, campaign_id=item.campaign_id, left=0, right=1, outcome="left",
                            who="eve", kind="person", at=START, shown="left_first"))  # fmt: skip

    sqlite_store.write(vote)
    (tmp_path / "voted").mkdir()
    (tmp_path / "voted" / "data.json").write_text(json.dumps({"votes": {"ids": ["vote0", "vote1"]}}))
    kto = file_hash(tmp_path / "out" / "kto.jsonl")
    versions = (
        ("other", None, {"data": [{"files": {"x.jsonl": "0" * 64}}]}, "none"),
        ("direct", None, {"data": [{"files": {"kto.jsonl": kto}}]}, "none"),
        ("child", 2, {}, "none"),
        ("by_votes", None, {}, "voted"),
    )
    for number, (name, base, lineage, folder) in enumerate(versions, 1):
        row = ModelVersion(id=number, name=name, content_hash=name, kind="model", folder=str(tmp_path / folder),
                           files={}, base_id=base, lineage=lineage, who="", complete=True, created=START)  # fmt: skip
        sqlite_store.write(lambda session, row=row: session.add(row))
    assert forget(recording, "ann").trained == ["direct", "child", "by_votes"]


def test_what_cannot_be_deleted_is_listed(sqlite_store: Store, tmp_path: Path) -> None:
    recording = fill(sqlite_store, tmp_path)
    (tmp_path / "out").rename(tmp_path / "moved")
    copy = tmp_path / "palate.db.schema-0003.20260101T000000Z"
    copy.write_text(CANARY)
    (tmp_path / "saved.csv").write_text(CANARY)
    done = forget(recording, "ann", files=[tmp_path / "saved.csv", tmp_path / "none.jsonl"])
    texts = "\n".join(done.remaining)
    for name in (str(tmp_path / "out"), "saved.csv: only .jsonl", "none.jsonl: no such file", copy.name):
        assert name in texts
    assert len(done.remaining) == 4
    forget(recording, "ann", with_copies=True)
    assert not copy.exists()


def test_interactions_are_deleted_by_id(sqlite_store: Store, tmp_path: Path) -> None:
    recording = fill(sqlite_store, tmp_path)
    identifier = sqlite_store.read(
        lambda session: session.scalar(select(Interaction.id).where(Interaction.state == "complete"))
    )
    assert identifier is not None
    done = erase(sqlite_store, START, ids=[identifier, "unknown"])
    assert (done.rows["interactions"], sum(done.files.values())) == (1, 3)
    deletions = sqlite_store.read(lambda session: session.execute(select(Deletion.kind, Deletion.counts)).all())
    assert deletions[0][0] == "delete"
    assert recording.recorder.user_hash("ann", None) not in repr(deletions)


def test_retention_is_of_each_key(store: Store) -> None:
    recording = Recording(store)
    for name, days in (("week", 7), ("year", 365), ("ever", None)):
        key = ApiKey(name=name, key_hash=name, retention_days=days, created=START)
        store.write(lambda session, key=key: session.add(key))
        for age in (6, 8, 400):
            recording.clock.now = START - timedelta(days=age)
            recording.rate(recording.complete(key_id=key.id), thumbs="up")
    assert maintain(recording.recorder, START) == ["3 interactions deleted: they are older than their key's retention"]
    left = {name: store.read(lambda session, name=name: len(list(session.scalars(Filter(key=name).query()))))
            for name in ("week", "year", "ever")}  # fmt: skip
    assert left == {"week": 1, "year": 2, "ever": 3}
    assert maintain(recording.recorder, START - timedelta(days=1000)) == [], "a clock that jumps back deletes nothing"
    assert maintain(recording.recorder, START) == []


@pytest.mark.parametrize("age", [0, 1])
def test_the_filter_has_an_exclusive_end(sqlite_store: Store, age: int) -> None:
    recording = Recording(sqlite_store)
    recording.complete()
    until = START + timedelta(microseconds=age)
    wanted = Filter(since=datetime(2026, 1, 1, tzinfo=UTC), until=until, model="v1", state="complete")
    assert sqlite_store.read(lambda session: len(list(session.scalars(wanted.query())))) == age


def test_an_interaction_is_known_by_itself_and_by_what_was_made_of_it(sqlite_store: Store, tmp_path: Path) -> None:
    fill(sqlite_store, tmp_path)
    ids = sqlite_store.read(lambda session: list(session.scalars(Filter().query())))
    assert is_known(sqlite_store, [ids[0], "x"])
    assert not is_known(sqlite_store, ["x"])
    purge(sqlite_store, START + timedelta(days=30), default_days=1)
    assert sqlite_store.read(lambda session: list(session.scalars(Filter().query()))) == []
    assert any(is_known(sqlite_store, [one]) for one in ids), "exported files name it"
