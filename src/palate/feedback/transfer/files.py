"""Imports files of candidates and votes into a campaign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.feedback.campaigns.campaign import CampaignSchema, create_campaign, find_campaign, list_campaigns
from palate.feedback.campaigns.tasks import count_votes
from palate.feedback.candidates import iter_candidates
from palate.feedback.queue.slots import lock_campaign
from palate.feedback.transfer.candidates import import_candidates
from palate.feedback.transfer.checks import Imported
from palate.feedback.transfer.votes import import_votes
from palate.feedback.votes import iter_votes
from palate.progress import track
from palate.store import Store

DEFAULT_CAMPAIGN = "default"
_DELAY = 2.0


@dataclass(frozen=True, slots=True)
class ImportedFiles:
    """What an import did.

    Attributes:
        campaign: its name.
        created: whether it is new.
        candidates, votes: counts; None if no file was given.
    """

    campaign: str
    created: bool
    candidates: Imported | None
    votes: Imported | None


def import_files(
    store: Store, candidates: Path | None, votes: Path | None = None, *, campaign: str | None = None
) -> ImportedFiles:
    """Add the rows of the files to a campaign, which is created with the default schema if it does not exist.

    Everything is one transaction: a row that cannot be added leaves the store as it was.

    Args:
        candidates: file of `palate generate`, or any other with prompts and completions.
        votes: file of votes on candidates of this import or of an earlier one.
        campaign: name; by default the store's only campaign, or `default` in a store without one.

    Raises:
        DataError, ArtifactError: a file cannot be read, or a row cannot be added; names it.
        UsageError: the store has several campaigns and none is named.
    """

    def work(session: Session) -> ImportedFiles:
        name, created = _campaign(session, campaign)
        items = cast = None
        if candidates is not None:
            items = import_candidates(session, name, track(iter_candidates(candidates), "candidates", delay=_DELAY))
        if votes is not None:
            opened = lock_campaign(session, find_campaign(session, name).id, change=True)
            cast = import_votes(session, name, track(iter_votes(votes), "votes", delay=_DELAY))
            count_votes(session, opened)
        return ImportedFiles(name, created, items, cast)

    return store.write(work)


def _campaign(session: Session, given: str | None) -> tuple[str, bool]:
    """The name of the campaign, and whether it was created now."""
    names = [campaign.name for campaign in list_campaigns(session)]
    if given is None and len(names) > 1:
        raise UsageError(f"the store has the campaigns {', '.join(names[:5])}; name one with --campaign")
    name = given or (names[0] if names else DEFAULT_CAMPAIGN)
    if name in names:
        return name, False
    create_campaign(session, name, CampaignSchema(), "palate label import")
    return name, True
