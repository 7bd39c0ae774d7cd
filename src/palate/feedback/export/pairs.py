"""Builds pairs from votes: the majority wins, ties are left out, and a pair's weight is the margin of its votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from palate.data.formats.targets import palate_row
from palate.data.turns.messages import assistant
from palate.errors import DataError
from palate.feedback.candidates import Candidates
from palate.feedback.export.aggregate import Aggregate, Decided, decide
from palate.feedback.export.lineage import VoteSource, lineage
from palate.feedback.votes import QuestionKey, Vote
from palate.records import PreferencePair

Select: TypeAlias = Literal["all", "extremes"]


@dataclass(frozen=True, slots=True)
class VotedPair:
    """Two answers of a row of which the votes prefer one.

    Attributes:
        row: the prompt and its answers.
        chosen, rejected: numbers of the answers.
        weight: of the pair in the loss.
        decided: the results that it was made from.
    """

    row: Candidates
    chosen: int
    rejected: int
    weight: float
    decided: tuple[Decided, ...]

    @property
    def id(self) -> str:
        return f"{self.row.id}#{self.chosen}>{self.rejected}"

    @property
    def cast(self) -> tuple[Vote, ...]:
        """The votes that it was made from."""
        return tuple(vote for result in self.decided for vote in result.cast)

    def record(self, source: VoteSource | None = None) -> PreferencePair:
        """The pair to train on, with the number of votes and the lineage in `extra`."""
        sides = (self.chosen, self.rejected)
        chosen, rejected = (assistant(self.row.completions[side].text) for side in sides)
        conflict = any(result.conflict for result in self.decided)
        origin = lineage(self.row, sides, self.cast, source or VoteSource(), conflict=conflict)
        return PreferencePair(
            id=self.id,
            prompt=self.row.prompt,
            chosen=chosen,
            rejected=rejected,
            weight=self.weight,
            tools=self.row.tools,
            dimensions=self._dimensions(),
            extra={"votes": len(self.cast), "lineage": origin},
        )

    def _dimensions(self) -> dict[str, tuple[float, float]] | None:
        """The mean scores (chosen, rejected) by dimension, of the votes that give one to both answers."""
        found: dict[str, list[tuple[float, float]]] = {}
        for vote in self.cast:
            if {vote.left, vote.right} != {self.chosen, self.rejected}:
                continue
            for name, (left, right) in vote.dimensions.items():
                found.setdefault(name, []).append((left, right) if vote.left == self.chosen else (right, left))
        means = {
            name: (sum(high for high, _ in given) / len(given), sum(low for _, low in given) / len(given))
            for name, given in found.items()
        }
        return means or None


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs, and the comparisons that gave none.

    Attributes:
        pairs: to train on.
        left_out: comparisons by reason: `tie`, `both_bad`, `few_votes`, `flagged`, `not_extreme`.
        compared: pairs of answers with at least one vote.
        repeated: of them, those with two votes or more, and `conflicts` those with a vote for each answer.
    """

    pairs: tuple[VotedPair, ...]
    left_out: Mapping[str, int]
    compared: int
    repeated: int
    conflicts: int


def make_pairs(
    candidates: Sequence[Candidates],
    votes: Iterable[Vote],
    *,
    select: Select = "all",
    aggregate: Aggregate = "majority",
    min_votes: int = 1,
    flagged: Collection[QuestionKey] = (),
) -> Pairs:
    """The pairs of answers of which the votes prefer one.

    Args:
        votes: valid votes of any number of voters.
        select: `all` makes a pair of every two answers with a majority for one of them; `extremes` makes one pair per
            row, from the answers with the highest and the lowest win rate.
        aggregate: as in `decide`.
        min_votes: comparisons with fewer votes are left out; a judge that was asked in both orders has cast two.
        flagged: (item, left, right) to leave out.

    Raises:
        DataError: a vote refers to a row or an answer that is not among the candidates.
    """
    decided = decide(votes, aggregate)
    check_answers(candidates, decided)
    left_out: Counter[str] = Counter()
    pairs: list[VotedPair] = []
    for row in candidates:
        usable = []
        for result in decided.get(row.id, ()):
            reason = unusable(row.id, result, min_votes, flagged, "both_bad")
            if reason is None:
                usable.append(result)
            else:
                left_out[reason] += 1
        found = _extremes(row, usable, left_out) if select == "extremes" else _all(row, usable, left_out)
        pairs += found
    results = [result for found in decided.values() for result in found]
    repeated = [result for result in results if result.given > 1]
    return Pairs(
        tuple(pairs),
        dict(left_out.most_common()),
        len(results),
        len(repeated),
        sum(result.conflict for result in repeated),
    )


def pairs_from_votes(
    candidates: Sequence[Candidates], votes: Iterable[Vote], *, select: Select = "all"
) -> list[dict[str, Any]]:
    """Training rows `{id, prompt, chosen, rejected, weight, votes, lineage}` of `make_pairs`."""
    return [pair_row(pair.record()) for pair in make_pairs(candidates, votes, select=select).pairs]


def pair_row(record: PreferencePair) -> dict[str, Any]:
    """A pair in palate's format, always with id and weight."""
    return {"id": record.id, **palate_row(record), "weight": record.weight}


def unusable(item: str, result: Decided, min_votes: int, flagged: Collection[QuestionKey], useless: str) -> str | None:
    """Why a comparison gives no row; None if it may. `useless` is the result that says nothing."""
    if (item, result.left, result.right) in flagged:
        return "flagged"
    if result.given < min_votes:
        return "few_votes"
    return useless if result.result == useless else None


def _all(row: Candidates, decided: Sequence[Decided], left_out: Counter[str]) -> list[VotedPair]:
    """A pair of every result with a majority."""
    pairs = []
    for result in decided:
        if result.result == "tie":
            left_out["tie"] += 1
            continue
        sides = (result.left, result.right) if result.result == "left" else (result.right, result.left)
        pairs.append(VotedPair(row, *sides, result.weight, (result,)))
    return pairs


def _extremes(row: Candidates, decided: Sequence[Decided], left_out: Counter[str]) -> list[VotedPair]:
    """One pair of the answers with the highest and lowest mean win rate; [] if they are equal."""
    shares: dict[int, list[float]] = {}
    for result in decided:
        shares.setdefault(result.left, []).append(result.share)
        shares.setdefault(result.right, []).append(1 - result.share)
    means = {answer: sum(given) / len(given) for answer, given in shares.items()}
    if not means:
        return []
    best, worst = max(sorted(means), key=means.__getitem__), min(sorted(means), key=means.__getitem__)
    weight = means[best] - means[worst]
    if weight <= 0:
        left_out["tie"] += len(decided)
        return []
    left_out["not_extreme"] += len(decided) - 1
    return [VotedPair(row, best, worst, weight, tuple(decided))]


def check_answers(candidates: Sequence[Candidates], decided: Mapping[str, Sequence[Decided]]) -> None:
    """Raises DataError if a vote refers to a row or an answer that is not among the candidates."""
    rows = {row.id: row for row in candidates}
    for item, found in decided.items():
        if item not in rows:
            raise DataError(f"a vote is on {item}, which is not among the candidates; give the file that was judged")
        highest = max(result.right for result in found)
        if highest >= len(rows[item].completions):
            raise DataError(f"a vote is on answer {highest} of {item}, which has {len(rows[item].completions)} answers")
