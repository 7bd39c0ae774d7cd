"""Builds pairs from votes: the majority wins, ties are left out, and a pair's weight is the margin of its votes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from palate.errors import DataError
from palate.feedback.candidates import Candidates
from palate.feedback.votes import Vote
from palate.records import as_turns

Select: TypeAlias = Literal["all", "extremes"]


@dataclass(frozen=True, slots=True)
class Decided:
    """The result of the votes on two answers of one row.

    Attributes:
        left, right: indices of the answers, left below right.
        share: share of the votes for left, ties counted as ½, in [0, 1].
        votes: number of votes that count (wins and ties).
    """

    left: int
    right: int
    share: float
    votes: int

    @property
    def margin(self) -> float:
        """|votes for − votes against| / votes, in [0, 1]."""
        return abs(2 * self.share - 1)


def decide(votes: Iterable[Vote]) -> dict[str, list[Decided]]:
    """Item → the result for each pair of its answers that has votes; unparsed and both-bad votes are ignored."""
    scores: dict[tuple[str, int, int], list[float]] = {}
    for vote in votes:
        if vote.score is not None:
            scores.setdefault((vote.item, vote.left, vote.right), []).append(vote.score)
    decided: dict[str, list[Decided]] = {}
    for (item, left, right), given in scores.items():
        decided.setdefault(item, []).append(Decided(left, right, sum(given) / len(given), len(given)))
    return decided


def pairs_from_votes(
    candidates: Sequence[Candidates], votes: Iterable[Vote], *, select: Select = "all"
) -> list[dict[str, Any]]:
    """Training rows `{id, prompt, chosen, rejected, weight, votes}`.

    Args:
        candidates: the rows that were voted on.
        votes: votes of any number of voters, with equal weight.
        select: `all` makes a pair of every two answers with a majority for one of them; `extremes` makes one pair per
            row, from the answers with the highest and the lowest win rate.

    Raises:
        DataError: a vote refers to a row or an answer that is not among the candidates.
    """
    rows = {row.id: row for row in candidates}
    decided = decide(votes)
    _check(rows, decided)
    pairs = []
    for row in candidates:
        found = decided.get(row.id, [])
        for chosen, rejected, weight, count in _extremes(found) if select == "extremes" else _all(found):
            pairs.append(
                {
                    "id": f"{row.id}#{chosen}>{rejected}",
                    "prompt": as_turns(row.prompt),
                    "chosen": row.completions[chosen].text,
                    "rejected": row.completions[rejected].text,
                    "weight": weight,
                    "votes": count,
                }
            )
    return pairs


def _all(decided: Sequence[Decided]) -> list[tuple[int, int, float, int]]:
    """(chosen, rejected, weight, votes) of every result with a majority."""
    return [
        (result.left, result.right, result.margin, result.votes)
        if result.share > 0.5
        else (result.right, result.left, result.margin, result.votes)
        for result in decided
        if result.margin > 0
    ]


def _extremes(decided: Sequence[Decided]) -> list[tuple[int, int, float, int]]:
    """(chosen, rejected, weight, votes) of the answers with the highest and lowest mean win rate; [] for a tie."""
    shares: dict[int, list[float]] = {}
    for result in decided:
        shares.setdefault(result.left, []).append(result.share)
        shares.setdefault(result.right, []).append(1 - result.share)
    means = {answer: sum(given) / len(given) for answer, given in shares.items()}
    if not means:
        return []
    best, worst = max(sorted(means), key=means.__getitem__), min(sorted(means), key=means.__getitem__)
    weight = means[best] - means[worst]
    return [(best, worst, weight, sum(result.votes for result in decided))] if weight > 0 else []


def _check(rows: Mapping[str, Candidates], decided: Mapping[str, Sequence[Decided]]) -> None:
    for item, found in decided.items():
        if item not in rows:
            raise DataError(f"a vote is on {item}, which is not among the candidates; give the file that was judged")
        highest = max(result.right for result in found)
        if highest >= len(rows[item].completions):
            raise DataError(f"a vote is on answer {highest} of {item}, which has {len(rows[item].completions)} answers")
