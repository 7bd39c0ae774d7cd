"""Votes: the verdict of a person, a judge, a reward model or a rule on two answers, one row each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from palate.artifacts import read_jsonl
from palate.errors import DataError
from palate.records import LEFT_SHARE

Outcome: TypeAlias = Literal["left", "right", "tie", "both_bad", "unparsed"]
Shown: TypeAlias = Literal["left_first", "right_first"]


@dataclass(frozen=True, slots=True)
class Vote:
    """One verdict on two answers to the same prompt.

    Attributes:
        item: id of the candidates row.
        left: index of the first answer within the row, from 0; below `right`.
        right: index of the second answer.
        outcome: the better answer, `tie`, `both_bad`, or `unparsed` if the judge's reply could not be read.
        who: name of the person or judge.
        when: ISO 8601 in UTC.
        shown: which of the two was shown first.
        reason: the voter's explanation.
        probability_left: the voter's probability that `left` is better, if it gives one.
    """

    item: str
    left: int
    right: int
    outcome: Outcome
    who: str
    when: str
    shown: Shown
    reason: str = ""
    probability_left: float | None = None

    @property
    def key(self) -> tuple[str, int, int, str, str]:
        """Identifies a question: the two answers, their order and the voter. Each question is asked only once."""
        return (self.item, self.left, self.right, self.who, self.shown)

    @property
    def score(self) -> float | None:
        """1 for left, 0 for right, ½ for a tie; None for `both_bad` and `unparsed`."""
        return LEFT_SHARE.get(self.outcome)

    @property
    def first_won(self) -> bool | None:
        """Whether the answer shown first won; None without a winner."""
        if self.outcome not in ("left", "right"):
            return None
        return (self.outcome == "left") == (self.shown == "left_first")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_votes(path: str | Path) -> list[Vote]:
    """Read the votes of a file.

    Raises:
        DataError: a row is not a vote; names file and row.
    """
    votes = []
    for number, row in enumerate(read_jsonl(path), 1):
        try:
            vote = Vote(**row)
        except TypeError as error:
            raise DataError(f"{path}:{number}: not a vote: {str(error).partition(') ')[2] or error}") from error
        if vote.outcome not in get_args(Outcome) or vote.shown not in get_args(Shown):
            raise DataError(f"{path}:{number}: outcome {vote.outcome!r}, shown {vote.shown!r} is not a vote's")
        votes.append(vote)
    return votes


@dataclass(frozen=True, slots=True)
class VoteSummary:
    """Counts of a set of votes.

    Attributes:
        votes: number of votes.
        ties, unparsed: number of votes with this outcome.
        questions: pairs of answers for which a voter gave a verdict in both orders.
        consistent: number of `questions` with the same outcome in both orders.
        first_won: share of votes with a winner in which the answer shown first won; ½ is unbiased. None without one.
    """

    votes: int
    ties: int
    unparsed: int
    questions: int
    consistent: int
    first_won: float | None

    def lines(self) -> list[str]:
        share = f"{self.consistent / self.questions:.1%}" if self.questions else "not known"
        first = "not known" if self.first_won is None else f"{self.first_won:.1%}"
        return [
            f"votes                {self.votes} ({self.ties} ties, {self.unparsed} unparsed)",
            f"same in both orders  {share} of {self.questions} questions",
            f"first answer wins    {first} of the decided votes",
        ]


def summarise(votes: Iterable[Vote]) -> VoteSummary:
    """Counts of the votes, with consistency and position bias."""
    votes = list(votes)
    both: dict[tuple[str, int, int, str], dict[str, str]] = {}
    for vote in votes:
        if vote.outcome != "unparsed":
            both.setdefault((vote.item, vote.left, vote.right, vote.who), {})[vote.shown] = vote.outcome
    asked_twice = [seen for seen in both.values() if len(seen) == 2]
    first = [vote.first_won for vote in votes if vote.first_won is not None]
    return VoteSummary(
        votes=len(votes),
        ties=sum(vote.outcome == "tie" for vote in votes),
        unparsed=sum(vote.outcome == "unparsed" for vote in votes),
        questions=len(asked_twice),
        consistent=sum(len(set(seen.values())) == 1 for seen in asked_twice),
        first_won=sum(first) / len(first) if first else None,
    )
