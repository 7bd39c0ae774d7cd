"""Which votes make training data: valid ones, of the kinds of voters that were asked for, cast without help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from palate.errors import UsageError
from palate.feedback.votes import DECIDED, QuestionKey, Vote, valid_votes

Voters: TypeAlias = Literal["people", "judges", "all"]


@dataclass(frozen=True, slots=True)
class FilteredVotes:
    """The votes that count, and how many do not, by reason.

    Attributes:
        votes: in the order they were given.
        left_out: votes by reason: `superseded`, `gold`, `repeat`, `saw_judge`, `identity_leak`,
            `other_voters`, `duplicate`, or the outcome (`skip`, `flag`, `unparsed`).
        flagged: (item, left, right) that a person flagged and no reviewer decided.
        kinds: votes that count by kind of voter.
    """

    votes: tuple[Vote, ...]
    left_out: Mapping[str, int]
    flagged: frozenset[QuestionKey]
    kinds: Mapping[str, int]


def is_person(vote: Vote) -> bool:
    """Whether a person cast the vote, and not a judge, a reward model or a rule."""
    return vote.kind == "person"


def filter_votes(votes: Iterable[Vote], *, voters: Voters | None = None, identity_leaks: bool = False) -> FilteredVotes:
    """The votes that make training data.

    Votes on a known answer (`gold`) or a second time (`repeat`) measure the voter, and a vote after a judge's verdict
    (`saw_judge`) is not the person's own; they are left out. Of several votes of one person on the same two answers
    the last one counts, of a judge the last one for each order.

    Args:
        voters: whose votes count; None if all are of people, or none is.
        identity_leaks: whether votes on answers that name their maker count, although they are not blind.

    Raises:
        UsageError: people and judges voted, and `voters` does not say whose votes count.
    """
    votes = list(votes)
    valid = valid_votes(votes)
    left_out: Counter[str] = Counter({"superseded": len(votes) - len(valid)})
    flagged = frozenset(vote.question for vote in valid if vote.outcome == "flag")
    kept = []
    for vote in valid:
        reason = _reason(vote, identity_leaks)
        if reason is None:
            kept.append(vote)
        else:
            left_out[reason] += 1
    people = sum(map(is_person, kept))
    if voters is None and 0 < people < len(kept):
        raise UsageError(
            f"the votes are of people ({people}) and of judges ({len(kept) - people}); say whose count: "
            "--voters people, judges or all"
        )
    if voters in ("people", "judges"):
        chosen = [vote for vote in kept if is_person(vote) == (voters == "people")]
        left_out["other_voters"] = len(kept) - len(chosen)
        kept = chosen
    last = {_question(vote): vote for vote in kept}
    left_out["duplicate"] = len(kept) - len(last)
    counted = tuple(vote for vote in kept if last[_question(vote)] is vote)
    return FilteredVotes(
        counted,
        {reason: count for reason, count in left_out.most_common() if count},
        flagged.difference(vote.question for vote in counted if vote.deciding),
        dict(Counter(vote.kind for vote in counted)),
    )


def _reason(vote: Vote, identity_leaks: bool) -> str | None:
    """Why a vote does not count; None if it does."""
    for name in ("gold", "repeat", "saw_judge"):
        if getattr(vote, name):
            return name
    if vote.identity_leak and not identity_leaks:
        return "identity_leak"
    return None if vote.outcome in DECIDED else vote.outcome


def _question(vote: Vote) -> tuple[str, ...]:
    """Equal for two votes of which the later one counts; a judge is asked in both orders, a person once."""
    order = "" if is_person(vote) else vote.shown
    sides = (str(vote.left), str(vote.right))
    return (vote.campaign, vote.item, *sides, vote.kind, vote.who, order, str(vote.deciding))
