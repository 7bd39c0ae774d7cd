"""`palate label import`: candidates and votes of files into a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from palate.cli.arguments import CampaignName, StoreUrl, opened_store
from palate.cli.console import print_done, print_note
from palate.errors import UsageError

CandidatesFile = Annotated[
    Path | None,
    typer.Option("--candidates", metavar="FILE.jsonl", help="Candidates, as `palate generate` writes them."),
]
VotesFile = Annotated[
    Path | None,
    typer.Option("--votes", metavar="FILE.jsonl", help="Votes on candidates of the same or of an earlier import."),
]


def import_command(
    candidates: CandidatesFile = None,
    votes: VotesFile = None,
    campaign: CampaignName = None,
    store: StoreUrl = None,
) -> None:
    """Add candidates and votes from files to a campaign; rows already in it are counted, not added again.

    Example: palate label import --candidates candidates.jsonl --votes votes.jsonl
    """
    if candidates is None and votes is None:
        raise UsageError("name --candidates FILE, --votes FILE, or both")

    from palate.feedback.transfer import import_files

    with opened_store(store, create=True) as opened:
        done = import_files(opened, candidates, votes, campaign=campaign)
    lines = [
        f"store                {opened.url}",
        f"campaign             {done.campaign}{' (new)' if done.created else ''}",
    ]
    for name, counts in (("candidates", done.candidates), ("votes", done.votes)):
        if counts is not None:
            lines.append(f"{name:<20} {counts.new:,} new, {counts.same:,} there already")
    print_done("\n".join(lines), {"store": opened.url, **asdict(done)})
    if done.candidates is not None and done.candidates.new:
        print_note(f"next: `palate label assign {done.campaign}` makes the tasks of the new candidates")
