"""Votes become pairs: the majority decides, ties are left out, and a pair's weight is the margin of its votes."""

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
        left, right: numbers of the answers, left below right.
        share: share of the votes for left, a tie counting ½, in [0, 1].
        votes: how many decided between the two.
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
    """Item → the result for each two of its answers; unparsed and both-bad votes are ignored."""
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
        votes: of any number of voters, with equal weight.
        select: `all` makes a pair of each two answers with a majority for one; `extremes` makes one pair per row, of
            the answers with the highest and the lowest win rate.

    Raises:
        DataError: a vote is on a row or an answer that is not among the candidates.
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
    return [
        (one.left, one.right, one.margin, one.votes)
        if one.share > 0.5
        else (one.right, one.left, one.margin, one.votes)
        for one in decided
        if one.margin > 0
    ]


def _extremes(decided: Sequence[Decided]) -> list[tuple[int, int, float, int]]:
    shares: dict[int, list[float]] = {}
    for one in decided:
        shares.setdefault(one.left, []).append(one.share)
        shares.setdefault(one.right, []).append(1 - one.share)
    means = {answer: sum(given) / len(given) for answer, given in shares.items()}
    if not means:
        return []
    best, worst = max(sorted(means), key=means.__getitem__), min(sorted(means), key=means.__getitem__)
    weight = means[best] - means[worst]
    return [(best, worst, weight, sum(one.votes for one in decided))] if weight > 0 else []


def _check(rows: Mapping[str, Candidates], decided: Mapping[str, Sequence[Decided]]) -> None:
    for item, found in decided.items():
        if item not in rows:
            raise DataError(f"a vote is on {item}, which is not among the candidates; give the file that was judged")
        highest = max(one.right for one in found)
        if highest >= len(rows[item].completions):
            raise DataError(f"a vote is on answer {highest} of {item}, which has {len(rows[item].completions)} answers")
