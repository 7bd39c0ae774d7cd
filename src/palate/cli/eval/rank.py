"""`palate eval rank`: ratings of many models from votes on their answers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from palate.cli.arguments import CampaignName, StoreUrl, opened_store
from palate.cli.columns import table, wrapped
from palate.cli.console import print_json, print_note, print_result, wants_json
from palate.errors import UsageError
from palate.feedback.votes import VoterKind

if TYPE_CHECKING:
    from palate.evaluation.ranking import RatedGroup
    from palate.feedback.candidates import Candidates
    from palate.feedback.votes import Vote

VotesPaths = Annotated[
    list[Path] | None, Argument(metavar="VOTES", help="Files of votes, or folders of `palate eval winrate`.")
]
CandidatesFile = Annotated[
    Path | None,
    Option("--candidates", metavar="FILE.jsonl", help="Answers of the votes. Default: candidates.jsonl beside."),
]
Anchor = Annotated[
    str | None, Option("--anchor", metavar="MODEL", help="Model with 1000 points. Default: the first one.")
]
Kind = Annotated[VoterKind | None, Option("--kind", help="Only votes of this kind of voter.")]
LengthControl = Annotated[bool, Option("--length-control", help="Rate at equal length of the answers.")]


def command(
    votes: VotesPaths = None,
    candidates: CandidatesFile = None,
    store: StoreUrl = None,
    campaign: CampaignName = None,
    anchor: Anchor = None,
    kind: Kind = None,
    length_control: LengthControl = False,
) -> None:
    """Rate models by Bradley and Terry's model: ratings with intervals and ranks, from votes on pairs of their answers.

    Example: palate eval rank winrate-b-vs-a winrate-c-vs-b --anchor a
    """
    from palate.evaluation.ranking import rank, read_verdicts

    if not votes and store is None and campaign is None:
        raise UsageError("name files of votes, or --store and --campaign")
    sources = [_of_files(path, candidates) for path in votes or []]
    if store is not None or campaign is not None:
        sources.append(_of_store(store, campaign))
    verdicts = read_verdicts(sources, kind=kind)
    groups = rank(verdicts, anchor=anchor, length_control=length_control)
    if wants_json():
        facts = {"votes": len(verdicts.rows), "kinds": verdicts.kinds, "left_out": verdicts.left_out}
        print_json({**facts, "groups": [asdict(group) for group in groups]})
    else:
        print_result("\n\n".join(wrapped(_group_text(group), hang=2) for group in groups))
    for reason, count in verdicts.left_out.items():
        print_note(f"votes left out: {count:,}: {reason}")
    if len(verdicts.kinds) > 1:
        kinds = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in verdicts.kinds.items())
        print_note(f"votes of several kinds are rated together ({kinds}); --kind takes one")
    if len(groups) > 1:
        print_note("ratings of different groups cannot be compared: no finite distance between them can be estimated")


def _of_files(path: Path, candidates: Path | None) -> tuple[tuple[Candidates, ...], tuple[Vote, ...]]:
    from palate.feedback.export.collection import collection_of_files

    file = path / "votes.jsonl" if path.is_dir() else path
    answers = candidates or file.with_name("candidates.jsonl")
    for one, what in ((file, "votes"), (answers, "candidates; name it with --candidates")):
        if not one.is_file():
            raise UsageError(f"{one}: there is no such file of {what}")
    read = collection_of_files(answers, file)
    return read.candidates, read.votes


def _of_store(store: str | None, campaign: str | None) -> tuple[tuple[Candidates, ...], tuple[Vote, ...]]:
    from palate.feedback.export.collection import collection_of_store

    with opened_store(store) as opened:
        read = collection_of_store(opened, campaign)
    return read.candidates, read.votes


def _group_text(group: RatedGroup) -> str:
    apart = [f"rated apart: {group.apart}"] if group.apart else []
    if group.result is None or not group.result.ratings:
        reason = [] if group.result is None else [f"no ratings: {group.result.reason}"]
        return "\n".join([", ".join(group.models), *reason, *apart])
    rows = []
    for one in group.result.ratings:
        rating, ends = f"{one.rating.estimate:.0f}", f"{one.rating.low:.0f} to {one.rating.high:.0f}"
        rows.append([str(one.rank), one.model, rating, ends, f"{one.comparisons:,}"])
    lines = [table(["rank", "model", "rating", "95 %", "votes"], rows, right=(0, 2, 3, 4)), ""]
    lines.append(f"{group.votes:,} votes on {group.prompts:,} prompts; {group.result.anchor} has 1000 points")
    named = [("first slot gains", group.result.order), *(("length gains", one) for one in group.result.covariates)]
    lines += [
        f"{name} {one.estimate:+.2f} in log-odds ({one.low:+.2f} to {one.high:+.2f})" for name, one in named if one
    ]
    return "\n".join([*lines, *apart])
