"""Candidates and votes to export, from files or a campaign of the store, with what is known of their making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from palate.artifacts import file_hash
from palate.errors import UsageError
from palate.feedback.campaigns.campaign import find_campaign, list_campaigns
from palate.feedback.candidates import Candidates, read_candidates
from palate.feedback.export.lineage import JudgeOrigin, VoteSource
from palate.feedback.export.vote_filter import is_person
from palate.feedback.transfer import candidates_in, votes_in
from palate.feedback.votes import Vote, read_votes
from palate.store import Store
from palate.store.tables import Campaign, CampaignVersion, Judgement, StoredJudgeCard, Task


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the comparisons of a campaign were sampled.

    Attributes:
        tasks: number of comparisons, without those with a known answer.
        known: number of them with a stored probability of being drawn first, w/Σw.
        lowest, highest: of these probabilities; None if none is known.
    """

    tasks: int
    known: int
    lowest: float | None
    highest: float | None


@dataclass(frozen=True, slots=True)
class Collection:
    """Candidates and the votes on them.

    Attributes:
        source: names of files or of the campaign, and the judges.
        candidates: the rows that were voted on.
        votes: all votes, superseded ones too.
        files: the files that were read, by role; empty if a store was read.
        schemas: the campaign's schemas by version, as stored.
        sampling: None if a file was read.
    """

    source: VoteSource
    candidates: tuple[Candidates, ...]
    votes: tuple[Vote, ...]
    files: Mapping[str, Path] = field(default_factory=dict)
    schemas: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    sampling: Sampling | None = None

    def origin(self) -> dict[str, Any]:
        """Source and SHA-256 of the files, for `data.json`."""
        files = {role: {"name": path.name, "sha256": file_hash(path)} for role, path in self.files.items()}
        return {"source": self.source.name, "files": files}


def collection_of_files(candidates: str | Path, votes: str | Path) -> Collection:
    """The content of a candidates file and a votes file.

    Raises:
        DataError: a row is not what its file should have; names file and row.
    """
    paths = {"candidates": Path(candidates), "votes": Path(votes)}
    name = " and ".join(path.name for path in paths.values())
    return Collection(VoteSource(name), tuple(read_candidates(candidates)), tuple(read_votes(votes)), paths)


def collection_of_store(store: Store, campaign: str | None = None) -> Collection:
    """The items, answers and votes of a campaign.

    Args:
        campaign: its name; None if the store has only one.

    Raises:
        UsageError: there is no such campaign, or no name is given and there are several.
    """
    return store.read(lambda session: _read(session, campaign))


def _read(session: Session, name: str | None) -> Collection:
    campaign = _campaign(session, name)
    votes = tuple(votes_in(session, campaign.name))
    return Collection(
        VoteSource(f"campaign {campaign.name}", _judges(session, votes)),
        tuple(candidates_in(session, campaign.name)),
        votes,
        schemas=_schemas(session, campaign.id),
        sampling=_sampling(session, campaign.id),
    )


def _campaign(session: Session, name: str | None) -> Campaign:
    if name is not None:
        return find_campaign(session, name)
    found = list_campaigns(session)
    if not found:
        raise UsageError("the store has no campaign; `palate label import` makes one from a candidates file")
    if len(found) > 1:
        names = ", ".join(campaign.name for campaign in found)
        raise UsageError(f"the store has several campaigns; name one with --campaign: {names}")
    return found[0]


def _schemas(session: Session, campaign: int) -> dict[int, Mapping[str, Any]]:
    versions = select(CampaignVersion).where(CampaignVersion.campaign_id == campaign).order_by(CampaignVersion.version)
    return {row.version: row.schema for row in session.scalars(versions)}


def _sampling(session: Session, campaign: int) -> Sampling:
    of = (func.count(), func.count(Task.probability), func.min(Task.probability), func.max(Task.probability))
    tasks, known, lowest, highest = session.execute(
        select(*of).where(Task.campaign_id == campaign, Task.gold.is_(False))
    ).one()
    return Sampling(tasks, known, lowest, highest)


def _judges(session: Session, votes: tuple[Vote, ...]) -> dict[str, JudgeOrigin]:
    """What the store has about the judges of these votes: the prompt of their requests, and their newest card."""
    found = {}
    for name in dict.fromkeys(vote.who for vote in votes if not is_person(vote)):
        card = session.scalars(
            select(StoredJudgeCard).where(StoredJudgeCard.judge == name).order_by(StoredJudgeCard.id.desc())
        ).first()
        asked = session.scalars(select(Judgement).where(Judgement.judge == name).limit(1)).first()
        prompt = {} if asked is None else asked.request.get("prompt") or {}
        # Without the store's requests the name still has the prompt and a hash: openai:MODEL/criteria-1a2b3c4d.
        told = " ".join(str(prompt[key]) for key in ("name", "version", "sha256") if prompt.get(key))
        found[name] = JudgeOrigin(name, told, "" if card is None else card.content_hash)
    return found
