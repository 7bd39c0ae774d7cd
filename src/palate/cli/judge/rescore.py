"""`palate judge rescore`: other verdicts on the answers that a votes file is about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.judge.options import JudgeSpec, asks_judge, judge_of
from palate.cli.judge.result import print_votes
from palate.errors import DataError, UsageError
from palate.feedback.judges.settings import ApiSettings

VotesFile = Annotated[Path, Argument(metavar="VOTES.jsonl", help="Votes, as `palate judge` writes them.")]
CandidatesFile = Annotated[
    Path | None, Option("--candidates", metavar="FILE.jsonl", help="Default: X.jsonl for the votes X.votes.jsonl.")
]


@asks_judge
def command(votes: VotesFile, judge: JudgeSpec, settings: ApiSettings, candidates: CandidatesFile = None) -> None:
    """Ask another judge, or with another prompt, about the answers in a votes file; appends votes to it.

    Nothing is generated again and no vote is changed: votes of each judge and prompt have their own name.

    Example: palate judge rescore votes.jsonl --judge openai:m --prompt rubric
    """
    from palate.feedback.candidates import read_candidates
    from palate.feedback.judging import JudgeQuestion, collect_votes
    from palate.feedback.votes import read_votes

    if not votes.is_file():
        raise UsageError(f"{votes}: there is no such file; `palate judge CANDIDATES.jsonl` makes votes")
    rows = {row.id: row for row in read_candidates(candidates or _candidates_of(votes))}
    pairs = dict.fromkeys((vote.item, vote.left, vote.right) for vote in read_votes(votes))
    unknown = next((item for item, _, right in pairs if item not in rows or right >= len(rows[item].completions)), None)
    if unknown is not None:
        raise DataError(
            f"{votes}: a vote is on {unknown}, which is not among the candidates; name them with --candidates"
        )
    asked = [
        JudgeQuestion(rows[item], left, right, shown)
        for item, left, right in pairs
        for shown in ("left_first", "right_first")
    ]
    if not asked:
        raise UsageError(f"{votes}: has no vote")
    asked_judge = judge_of(judge, settings, votes)
    collected = collect_votes(asked, asked_judge, votes)
    print_votes(collected, asked_judge, votes, store=settings.store, lines=[], numbers={})


def _candidates_of(votes: Path) -> Path:
    found = votes.with_name(votes.name.removesuffix(".votes.jsonl") + ".jsonl")
    if found == votes or not found.is_file():
        raise UsageError(f"{votes}: name the candidates that the votes are on with --candidates")
    return found
