"""Scored items: a judge's verdicts or people's votes on the two answers to each prompt; win rates of parts of them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from palate.evaluation.logs.items import content_hash
from palate.feedback.candidates import Candidates
from palate.feedback.judging import JudgedVotes
from palate.feedback.people_votes import PeopleVotes
from palate.feedback.votes import Vote
from palate.records import Record, as_turns, prompt_key
from palate.stats import Interval, rate_interval

Status: TypeAlias = Literal["judged", "same_answer", "unparsed", "missing"]
_RATIOS = (
    (0.5, "A less than half as long"),
    (0.8, "A shorter (0.5 to 0.8)"),
    (1.25, "similar (0.8 to 1.25)"),
    (2.0, "A longer (1.25 to 2)"),
    (float("inf"), "A more than twice as long"),
)
"""Upper end of the ratio of characters A / B, and the name of the group."""


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One verdict: A's share of a win (1, ½, 0), and whether A was shown first (+1) or second (−1)."""

    share: float
    order: int


@dataclass(frozen=True, slots=True)
class WinRateItem:
    """One prompt with the two answers and what was said about them.

    Attributes:
        id: of the prompt.
        status: `same_answer` counts as a tie without being asked about; `missing` has no answer or no verdict.
        reason: of an unparsed or missing item; of a judged one the voter's own reason, of its first verdict with one.
        verdicts: of the judge two, one each order; of people any number.
        probability: the judge's mean probability that A's answer is the better one, if it gives one.
        row: prompt and answers; None if an answer is missing.
        group: key of its cluster.
        category: value of the category column; empty without one.
    """

    id: str
    status: Status
    reason: str = ""
    verdicts: tuple[VerdictRow, ...] = ()
    probability: float | None = None
    row: Candidates | None = None
    group: str = ""
    category: str = ""

    @property
    def scored(self) -> bool:
        """Whether the item counts in the win rate."""
        return self.status in ("judged", "same_answer")

    @property
    def score(self) -> float | None:
        """Mean share of A; None if the item was not judged."""
        if self.status == "same_answer":
            return 0.5
        if self.status != "judged":
            return None
        return sum(verdict.share for verdict in self.verdicts) / len(self.verdicts)

    def shown(self, order: int) -> float:
        """Mean share of A over the verdicts in this order (±1); NaN without one, ½ for equal answers."""
        if self.status == "same_answer":
            return 0.5
        shares = [verdict.share for verdict in self.verdicts if verdict.order == order]
        return sum(shares) / len(shares) if shares and self.status == "judged" else math.nan

    @property
    def lengths(self) -> tuple[int, int]:
        """Characters of the answers of A and B."""
        return (0, 0) if self.row is None else (len(self.row.completions[0].text), len(self.row.completions[1].text))

    def to_json(self) -> dict[str, Any]:
        """The row of `winrate.json`."""
        a, b = self.lengths
        return {
            "id": self.id,
            "status": self.status,
            "score": self.score,
            "shown_first": self.shown(1),
            "shown_second": self.shown(-1),
            "probability": self.probability,
            "length_a": a if self.row else None,
            "length_b": b if self.row else None,
            "group": self.group,
            **({"category": self.category} if self.category else {}),
            **({"reason": self.reason} if self.reason else {}),
        }


def prompts_hash(prompts: Sequence[Record]) -> str:
    """Hash of the prompts' content in their order: turns and tools, not ids."""
    return content_hash([[as_turns(record.prompt), record.tools] for record in prompts])


def same_answers(row: Candidates) -> bool:
    """Whether both answers are the same but for white space around them; `judging.questions` leaves those out."""
    return row.completions[0].text.strip() == row.completions[1].text.strip()


def judged_items(rows: Sequence[Candidates], collected: JudgedVotes) -> list[WinRateItem]:
    """One item for each row, from a judge's votes in both orders."""
    votes: dict[str, list[Vote]] = {}
    for vote in collected.votes:
        votes.setdefault(vote.item, []).append(vote)
    missing = {question.row.id: why for question, why in collected.missing}
    return [_judged(row, votes.get(row.id, []), missing.get(row.id)) for row in rows]


def _judged(row: Candidates, votes: Sequence[Vote], missing: str | None) -> WinRateItem:
    if same_answers(row):
        return WinRateItem(row.id, "same_answer", row=row)
    if missing is not None:
        return WinRateItem(row.id, "missing", f"no verdict: {missing}", row=row)
    unread = next((vote for vote in votes if vote.score is None), None)
    if unread is not None:
        return WinRateItem(row.id, "unparsed", " ".join(unread.reason.split())[:200], row=row)
    probabilities = [vote.probability_left for vote in votes if vote.probability_left is not None]
    return WinRateItem(
        row.id,
        "judged",
        next((vote.reason for vote in votes if vote.reason), ""),
        _verdict_rows(votes),
        sum(probabilities) / len(probabilities) if probabilities else None,
        row,
    )


def people_items(rows: Sequence[Candidates], people: PeopleVotes) -> list[WinRateItem]:
    """One item for each row, from people's votes; “both bad” is a tie. A row without a vote is missing."""
    by_question = people.by_question()
    items = []
    for row in rows:
        votes = by_question.get((row.id, 0, 1), [])
        if votes:
            reason = next((vote.reason for vote in votes if vote.reason), "")
            items.append(WinRateItem(row.id, "judged", reason, _verdict_rows(votes), row=row))
        elif same_answers(row):
            items.append(WinRateItem(row.id, "same_answer", row=row))
        else:
            items.append(WinRateItem(row.id, "missing", "no vote of people", row=row))
    return items


def people_shares(people: PeopleVotes) -> dict[str, float]:
    """Item id → A's mean share over people's votes, to correct a judge with."""
    found = {}
    for (item, left, right), votes in people.by_question().items():
        if (left, right) == (0, 1):
            shares = [row.share for row in _verdict_rows(votes)]
            found[item] = sum(shares) / len(shares)
    return found


def _verdict_rows(votes: Iterable[Vote]) -> tuple[VerdictRow, ...]:
    """The votes, of which each decides: `both_bad` is a tie."""
    return tuple(
        VerdictRow(0.5 if vote.score is None else vote.score, 1 if vote.shown == "left_first" else -1) for vote in votes
    )


def in_order_of(
    ids: Sequence[str], items: Iterable[WinRateItem], missing: Mapping[str, str], categories: Mapping[str, str]
) -> list[WinRateItem]:
    """All items in the order of the prompts, those without answers included, with their categories."""
    by_id = {item.id: item for item in items}
    found = [by_id.get(one) or WinRateItem(one, "missing", missing.get(one, "no answer")) for one in ids]
    return [replace(item, category=categories.get(item.id, "")) for item in found]


def with_groups(items: Sequence[WinRateItem], groups: Mapping[str, str] | None) -> list[WinRateItem]:
    """The items with their clusters: of `groups` by id; without it, items with the same prompt are a cluster."""
    if groups is not None:
        return [replace(item, group=groups.get(item.id, item.id)) for item in items]
    first: dict[str, str] = {}
    return [
        replace(item, group=item.id if item.row is None else first.setdefault(prompt_key(item.row.prompt), item.id))
        for item in items
    ]


def clusters_of(items: Sequence[WinRateItem]) -> list[Hashable] | None:
    """The cluster of each item; None if every item is its own."""
    names: list[Hashable] = [item.group or item.id for item in items]
    return names if len(set(names)) < len(names) else None


@dataclass(frozen=True, slots=True)
class Group:
    """A part of the items.

    Attributes:
        name: of the category or the range of lengths.
        items: number of items; `judged` of them count.
        wins, losses: items with a score above and below ½.
        rate: win rate of A; None if no item was judged.
    """

    name: str
    items: int
    judged: int
    wins: int
    losses: int
    rate: Interval | None


def by_category(items: Sequence[WinRateItem]) -> list[Group]:
    """A group for each category, in the order of first appearance; none if no item has one."""
    names = list(dict.fromkeys(item.category for item in items))
    if names in ([], [""]):
        return []
    return [_group(name or "(none)", [item for item in items if item.category == name]) for name in names]


def by_length(items: Sequence[WinRateItem]) -> list[Group]:
    """A group for each range of the ratio of lengths that has an item; items without answers are in none."""
    named: dict[str, list[WinRateItem]] = {name: [] for _, name in _RATIOS}
    for item in items:
        if item.row is not None:
            a, b = item.lengths
            ratio = a / b if b else (1.0 if a == 0 else float("inf"))
            named[next(name for most, name in _RATIOS if ratio <= most)].append(item)
    return [_group(name, found) for name, found in named.items() if found]


def _group(name: str, items: Sequence[WinRateItem]) -> Group:
    kept = [item for item in items if item.scored]
    scores = [score for item in kept if (score := item.score) is not None]
    rate = rate_interval(scores, clusters=clusters_of(kept)) if scores else None
    return Group(
        name, len(items), len(scores), sum(score > 0.5 for score in scores), sum(score < 0.5 for score in scores), rate
    )
