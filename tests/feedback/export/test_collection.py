"""A campaign of the store exports the same as its files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from palate.errors import UsageError
from palate.feedback.campaigns.campaign import CampaignSchema, create_campaign
from palate.feedback.candidates import Candidates
from palate.feedback.export.collection import collection_of_store
from palate.feedback.export.export import export_votes
from palate.feedback.export.lineage import JudgeOrigin
from palate.feedback.transfer import import_candidates, import_votes
from palate.feedback.votes import Vote
from palate.records import Answer, Message
from palate.store import Store, open_store
from palate.store.tables import Judgement, StoredJudgeCard

ROWS = [Candidates(f"p{n}", (Message("user", f"q{n}"),), (Answer("a", "stop"), Answer("b", "stop"))) for n in range(3)]
VOTES = [
    Vote("p0", 0, 1, "left", "j", "2026-01-31T12:00:00Z", "left_first", id="v1", campaign="c", schema_version=1),
    Vote("p1", 0, 1, "right", "j", "2026-01-31T12:00:00Z", "left_first", id="v2", campaign="c", schema_version=1),
    Vote("p1", 0, 1, "left", "j", "2026-01-31T12:00:01Z", "left_first", id="v3", campaign="c", supersedes="v2"),
]


def judgement(**prompt: object) -> Judgement:
    return Judgement(
        key="k", judge="j", request={"prompt": prompt}, text="A", outcome="left", attempts=1, at=datetime.now(UTC)
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(f"sqlite:///{tmp_path / 's.db'}")

    def fill(session: object) -> None:
        create_campaign(session, "c", CampaignSchema(criteria="Which is better?"), "me")  # type: ignore[arg-type]
        import_candidates(session, "c", ROWS)  # type: ignore[arg-type]
        import_votes(session, "c", VOTES)  # type: ignore[arg-type]
        session.add(judgement(name="concise", version=2, sha256="abc"))  # type: ignore[attr-defined]
        session.add(StoredJudgeCard(judge="j", content_hash="c0ffee", card={}, at=datetime.now(UTC)))  # type: ignore[attr-defined]

    opened.write(fill)
    return opened


def test_a_campaign_is_read_with_its_schema_and_judges(store: Store, tmp_path: Path) -> None:
    found = collection_of_store(store)
    assert list(found.candidates) == ROWS
    assert list(found.votes) == VOTES
    assert found.schemas[1]["criteria"] == "Which is better?"
    assert found.source.name == "campaign c"
    assert found.source.judges == {"j": JudgeOrigin("j", "concise 2 abc", "c0ffee")}
    assert found.sampling is not None
    done = export_votes(found, tmp_path / "p.jsonl")
    assert (done.rows, done.votes_left_out) == (2, {"superseded": 1})
    assert "Which is better?" in (tmp_path / "p.jsonl.README.md").read_text()


def test_a_campaign_must_be_named_if_there_are_several(store: Store) -> None:
    store.write(lambda session: create_campaign(session, "d", CampaignSchema(criteria="x"), "me"))
    with pytest.raises(UsageError, match="several campaigns; name one with --campaign: c, d"):
        collection_of_store(store)
    assert list(collection_of_store(store, "c").candidates) == ROWS
    with pytest.raises(UsageError, match="no campaign e"):
        collection_of_store(store, "e")


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="palate label import"):
        collection_of_store(open_store(f"sqlite:///{tmp_path / 'e.db'}"))
