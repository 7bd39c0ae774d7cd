"""Votes: the verdict of a person, a judge, a reward model or a rule on two answers, one row each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from palate.artifacts import iter_jsonl
from palate.charts.text import amount
from palate.errors import DataError
from palate.records import LEFT_SHARE

Outcome: TypeAlias = Literal["left", "right", "tie", "both_bad", "unparsed", "skip", "flag"]
DECIDED: tuple[Outcome, ...] = ("left", "right", "tie", "both_bad")
"""Outcomes that decide something; the others are a person's or a judge's non-answer."""
QuestionKey: TypeAlias = tuple[str, int, int]
"""Two answers of a candidates row: its id, and their indices, the lower one first."""
Shown: TypeAlias = Literal["left_first", "right_first"]
VoterKind: TypeAlias = Literal["person", "judge", "reward_model", "rule"]


@dataclass(frozen=True, slots=True)
class Vote:
    """One verdict on two answers to the same prompt. A vote is never changed; to undo it, another one supersedes it.

    Attributes:
        item: id of the candidates row.
        left: index of the first answer within the row, from 0; below `right`.
        right: index of the second answer.
        outcome: the better answer, `tie`, `both_bad`, `unparsed` if the judge's reply could not be read, or, of a
            person who does not decide, `skip` or `flag` (the item has a problem).
        who: name of the person or judge.
        when: ISO 8601 in UTC.
        shown: which of the two was shown first.
        reason: the voter's explanation; of an unparsed verdict the judge's text.
        probability_left: the voter's probability that `left` is better, if it gives one.
        kind: of the voter.
        strength: 2 if the better answer is much better.
        tags: reasons that the voter chose from the campaign's list.
        dimensions: per dimension the scores (left, right).
        campaign: name of the campaign, and `schema_version` the version of its schema that the voter saw.
        seconds: time that the voter looked at the item with the page visible; `seconds_total` with pauses.
        gold: whether the item's answer was known beforehand, to measure the voter.
        repeat: whether the voter saw these two answers before in the other order, to measure the voter.
        saw_judge: whether the voter saw a judge's verdict first.
        identity_leak: whether an answer names its maker, so that the vote is not blind.
        deciding: whether it is a reviewer's, who decides where other votes disagree.
        id: unique id of the vote in a store.
        supersedes: id of the vote that this one replaces: of the same voter, or an earlier deciding one.
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
    kind: VoterKind = "judge"
    strength: Literal[1, 2] = 1
    tags: tuple[str, ...] = ()
    dimensions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    campaign: str = ""
    schema_version: int | None = None
    seconds: float | None = None
    seconds_total: float | None = None
    gold: bool = False
    repeat: bool = False
    saw_judge: bool = False
    identity_leak: bool = False
    deciding: bool = False
    id: str = ""
    supersedes: str = ""

    @property
    def key(self) -> tuple[str, int, int, str, str]:
        """Identifies a question: the two answers, their order and the voter. Each question is asked only once."""
        return (self.item, self.left, self.right, self.who, self.shown)

    @property
    def question(self) -> QuestionKey:
        """The two answers that it is on."""
        return (self.item, self.left, self.right)

    @property
    def score(self) -> float | None:
        """1 for left, 0 for right, ½ for a tie; None for outcomes that decide nothing."""
        return LEFT_SHARE.get(self.outcome)

    @property
    def first_won(self) -> bool | None:
        """Whether the answer shown first won; None without a winner."""
        if self.outcome not in ("left", "right"):
            return None
        return (self.outcome == "left") == (self.shown == "left_first")

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object; optional fields only where they say something."""
        row = {name: getattr(self, name) for name in _DEFAULTS}
        return {name: value for name, value in row.items() if name in _ALWAYS or value != _DEFAULTS[name]}


_DEFAULTS: Mapping[str, Any] = {
    entry.name: {} if entry.name == "dimensions" else entry.default for entry in fields(Vote)
}
_ALWAYS = ("item", "left", "right", "outcome", "who", "when", "shown", "reason", "probability_left")


_CHOICES: Mapping[str, Any] = MappingProxyType(
    {"outcome": Outcome, "shown": Shown, "kind": VoterKind, "strength": Literal[1, 2]}
)
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("item", "who", "when", "reason", "campaign", "id", "supersedes"), (str,)),
        **dict.fromkeys(("left", "right", "strength"), (int,)),
        **dict.fromkeys(("probability_left", "seconds", "seconds_total"), (int, float, type(None))),
        **dict.fromkeys(("gold", "repeat", "saw_judge", "identity_leak", "deciding"), (bool,)),
        "schema_version": (int, type(None)),
    }
)


def read_votes(path: str | Path) -> list[Vote]:
    """Read the votes of a file.

    Raises:
        DataError: a row is not a vote; names file and row.
    """
    return list(iter_votes(path))


def iter_votes(path: str | Path) -> Iterator[Vote]:
    """The same, one vote at a time, for files that are too large to be held."""
    for number, row in enumerate(iter_jsonl(path), 1):
        where = f"{path}:{number}"
        tags = row.get("tags") or []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise DataError(f"{where}: not a vote: tags is {tags!r}")
        try:
            scores = {name: (float(a), float(b)) for name, (a, b) in (row.pop("dimensions", None) or {}).items()}
            vote = Vote(**{**row, "tags": tuple(tags), "dimensions": scores})
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{where}: not a vote: {str(error).partition(') ')[2] or error}") from error
        _check_fields(vote, where)
        try:
            when = time_text(read_time(vote.when))
        except ValueError as error:
            raise DataError(f"{where}: when {vote.when!r} is not a time in ISO 8601") from error
        yield vote if when == vote.when else replace(vote, when=when)


def read_time(text: str) -> datetime:
    """The time of a vote; without a time zone it is UTC.

    Raises:
        ValueError: the text is not a time in ISO 8601.
    """
    when = datetime.fromisoformat(text)
    try:
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"the time {text} is outside of the calendar") from error


def time_text(when: datetime) -> str:
    """A time with time zone as votes have it: `2026-01-31T12:00:00Z`, with a fraction if it has one."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _check_fields(vote: Vote, where: str) -> None:
    for name, kinds in _TYPES.items():
        value = getattr(vote, name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise DataError(f"{where}: not a vote: {name} is {value!r}")
    for name, allowed in _CHOICES.items():
        if getattr(vote, name) not in get_args(allowed):
            words = ", ".join(map(str, get_args(allowed)))
            raise DataError(f"{where}: {name} {getattr(vote, name)!r} is not one of {words}")


def valid_votes(votes: Iterable[Vote]) -> list[Vote]:
    """The votes that are not superseded by a later one."""
    votes = list(votes)
    replaced = {vote.supersedes for vote in votes if vote.supersedes}
    return [vote for vote in votes if not (vote.id and vote.id in replaced)]


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
        of = amount(self.questions, "comparison")
        share = f"{self.consistent / self.questions:.1%} of {of}" if self.questions else "not known"
        first = "not known" if self.first_won is None else f"{self.first_won:.1%} of the decided votes"
        return [
            f"votes                {self.votes} ({amount(self.ties, 'tie')}, {self.unparsed} unparsed)",
            f"same in both orders  {share}",
            f"first answer wins    {first}",
        ]


def summarise(votes: Iterable[Vote]) -> VoteSummary:
    """Counts of the votes, with consistency and position bias."""
    votes = list(votes)
    both: dict[tuple[QuestionKey, str], dict[str, str]] = {}
    for vote in votes:
        if vote.outcome != "unparsed":
            both.setdefault((vote.question, vote.who), {})[vote.shown] = vote.outcome
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
