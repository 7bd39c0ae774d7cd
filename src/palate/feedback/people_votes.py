"""The votes of people, sorted by what they are good for; what does not count is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from palate.feedback.votes import QuestionKey, Vote, valid_votes


@dataclass(frozen=True, slots=True)
class PeopleVotes:
    """The votes of people, sorted by what they are good for.

    Attributes:
        votes: the first vote of each person on each question; gold questions are not in it.
        repeats: (first vote, later vote) of the same person on the same question.
        gold: votes on questions whose answer was known.
        left_out: number of votes that count nowhere, by reason.
    """

    votes: tuple[Vote, ...]
    repeats: tuple[tuple[Vote, Vote], ...]
    gold: tuple[Vote, ...]
    left_out: Mapping[str, int]

    def by_question(self) -> dict[QuestionKey, list[Vote]]:
        found: dict[QuestionKey, list[Vote]] = {}
        for vote in self.votes:
            found.setdefault(vote.question, []).append(vote)
        return found


def people_votes(votes: Iterable[Vote]) -> PeopleVotes:
    """Sort votes; those that are superseded, skipped, flagged, deciding, of judges or not blind are left out."""
    votes = list(votes)
    valid = valid_votes(votes)
    left_out: Counter[str] = Counter()
    if len(votes) > len(valid):
        left_out["superseded by a later vote"] = len(votes) - len(valid)
    first: dict[tuple[QuestionKey, str], Vote] = {}
    repeats, gold, again = [], [], []
    for vote in valid:
        reason = why_left_out(vote) if vote.kind == "person" else "not a person's"
        if reason:
            left_out[reason] += 1
        elif vote.gold:
            gold.append(vote)
        elif vote.repeat or (vote.question, vote.who) in first:
            again.append(vote)
        else:
            first[vote.question, vote.who] = vote
    for vote in again:
        before = first.get((vote.question, vote.who))
        if before is None:
            left_out["repeat of a vote that does not count"] += 1
        else:
            repeats.append((before, vote))
    return PeopleVotes(tuple(first.values()), tuple(repeats), tuple(gold), dict(left_out))


def why_left_out(vote: Vote) -> str:
    """Why a vote on two answers counts nowhere; empty if it counts."""
    if vote.outcome in ("skip", "flag", "unparsed"):
        return {"skip": "skipped", "flag": "flagged", "unparsed": "unparsed"}[vote.outcome]
    if vote.deciding:  # the reviewer saw the other votes first
        return "a reviewer's decision"
    if vote.saw_judge:
        return "saw a judge's verdict"
    return "an answer names its model" if vote.identity_leak else ""


def prompt_clusters(keys: Iterable[QuestionKey]) -> list[Hashable] | None:
    """The item of each question, as clusters; None if every question has its own item."""
    items: list[Hashable] = [item for item, _, _ in keys]
    return items if len(set(items)) < len(items) else None
