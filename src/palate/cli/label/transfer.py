"""`palate label export` and `import`: votes as training data, and candidates and votes in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from palate.charts.text import amount
from palate.cli.arguments import CampaignName, StoreUrl, opened_store
from palate.cli.console import print_done, print_note
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.feedback.export.collection import Collection
    from palate.feedback.export.export import Export

To = Annotated[
    Literal["palate", "trl", "llamafactory", "kto", "votes", "candidates"],
    Option(
        "--to",
        metavar="FORMAT",
        help="Pairs: palate, trl or llamafactory; labelled answers: kto; as stored: votes or candidates.",
    ),
]
Output = Annotated[Path, Option("--output", "-o", metavar="FILE", help="File to write: .jsonl, .json, .parquet …")]
CandidatesFile = Annotated[
    Path | None, Option("--candidates", metavar="FILE.jsonl", help="Candidates, in place of a store.")
]
VotesFile = Annotated[Path | None, Option("--votes", metavar="FILE.jsonl", help="Votes on --candidates.")]
AggregateName = Annotated[
    Literal["majority", "weighted", "dawid_skene"],
    Option(
        "--aggregate", metavar="RULE", help="majority, weighted (much better counts twice) or dawid_skene of votes."
    ),
]
SelectName = Annotated[
    Literal["all", "extremes"],
    Option("--select", help="Pairs per row: all that the votes decide, or best against worst (extremes)."),
]
VoterGroup = Annotated[
    Literal["people", "judges", "all"] | None,
    Option("--voters", help="Whose votes count; needed if people and judges voted."),
]
MinVotes = Annotated[
    int, Option("--min-votes", min=1, help="Fewest votes on two answers; a judge casts one for each order.")
]
WithLeaks = Annotated[
    bool, Option("--with-identity-leaks", help="Also votes on answers that name their maker, which are not blind.")
]
WithFlagged = Annotated[
    bool, Option("--with-flagged", help="Also comparisons that a person flagged and no reviewer decided.")
]


def export_command(
    to: To,
    output: Output,
    store: StoreUrl = None,
    campaign: CampaignName = None,
    candidates: CandidatesFile = None,
    votes: VotesFile = None,
    aggregate: AggregateName = "majority",
    select: SelectName = "all",
    voters: VoterGroup = None,
    min_votes: MinVotes = 1,
    with_identity_leaks: WithLeaks = False,
    with_flagged: WithFlagged = False,
) -> None:
    """Write votes as training data with a dataset card, or candidates and votes as files.

    Example: palate label export --to trl -o pairs.jsonl
    """
    if to == "kto" and select == "extremes":
        raise UsageError("--select extremes is for pairs; --to kto labels every answer")

    from palate.feedback.export.export import ExportOptions, export_votes, write_candidates_of, write_votes

    collection = _collection(store, campaign, candidates, votes)
    if to == "votes":
        _print_raw(to, output, write_votes(collection, output))
        return
    if to == "candidates":
        _print_raw(to, output, write_candidates_of(collection, output))
        return
    options = ExportOptions(
        to, aggregate, select, voters, min_votes, identity_leaks=with_identity_leaks, flagged=with_flagged
    )
    done = export_votes(collection, output, options)
    print_done("\n".join(_lines(done)), {**asdict(done), "conflict_rate": done.conflict_rate})


def _collection(store: str | None, campaign: str | None, candidates: Path | None, votes: Path | None) -> Collection:
    """The content of the two files, or of the store."""
    from palate.feedback.export.collection import collection_of_files, collection_of_store

    if candidates is not None and votes is not None:
        if store is not None or campaign is not None:
            raise UsageError("give --store (and --campaign), or --candidates and --votes, not both")
        return collection_of_files(candidates, votes)
    if candidates is not None or votes is not None:
        raise UsageError("--candidates and --votes go together: votes refer to the answers of a candidates file")

    with opened_store(store) as opened:
        return collection_of_store(opened, campaign)


def _print_raw(to: str, output: Path, count: int) -> None:
    print_done(f"{output}: {count:,} {to}", {"output": str(output), "to": to, "rows": count})


def _lines(done: Export) -> list[str]:
    rate = "not known: no two answers have two votes"
    if done.conflict_rate is not None:
        rate = f"{done.conflict_rate:.1%} of {amount(done.repeated, 'comparison')} with two votes or more"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in done.voters.items())
    lines = [
        f"rows                 {done.rows:,} in {done.output} ({done.to})",
        *([f"labels               {_counts(done.labels)}"] if done.labels else []),
        f"votes                {done.votes:,} ({kinds})",
        f"comparisons          {done.compared:,}",
        f"conflict rate        {rate}",
    ]
    if done.same_model:
        lines.append(f"one model on both    {amount(done.same_model, 'row')}, marked in lineage")
    if done.votes_left_out:
        lines.append(f"votes left out       {_counts(done.votes_left_out)}")
    if done.left_out:
        lines.append(f"not in the file      {_counts(done.left_out)}")
    return [*lines, f"also written         {', '.join(path.name for path in done.beside)}"]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


ImportedCandidates = Annotated[
    Path | None, Option("--candidates", metavar="FILE.jsonl", help="Candidates, as `palate generate` writes them.")
]
ImportedVotes = Annotated[
    Path | None,
    Option("--votes", metavar="FILE.jsonl", help="Votes on candidates of the same or of an earlier import."),
]


def import_command(
    candidates: ImportedCandidates = None,
    votes: ImportedVotes = None,
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
