"""The result of several votes on two answers: by majority, by weighted votes, or by Dawid and Skene's model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from palate.feedback.votes import DECIDED, QuestionKey, Vote

Aggregate: TypeAlias = Literal["majority", "weighted", "dawid_skene"]
Result: TypeAlias = Literal["left", "right", "tie", "both_bad"]


@dataclass(frozen=True, slots=True)
class Decided:
    """The result of the votes on two answers of one row.

    Attributes:
        left, right: indices of the answers, left below right.
        result: the better answer; `both_bad` if more than half of the votes say so.
        share: share of the votes for left, ties and both bad counted as ½, in [0, 1].
        weight: |votes for − votes against| / votes, in [0, 1]; `weighted`: a vote for "much better" counts twice, so
            that the weight is at most 2; `dawid_skene`: the difference of the two probabilities. Of `both_bad` it is
            the share of votes that say so, or its probability.
        cast: the votes that count: the reviewers' deciding ones if there are any, else all.
        given: number of votes, overruled ones too.
        conflict: whether each answer has a vote for it, overruled ones too.
    """

    left: int
    right: int
    result: Result
    share: float
    weight: float
    cast: tuple[Vote, ...]
    given: int
    conflict: bool

    @property
    def votes(self) -> int:
        """Number of votes that count: wins, ties and both bad."""
        return len(self.cast)


def decide(votes: Iterable[Vote], aggregate: Aggregate = "majority") -> dict[str, list[Decided]]:
    """Item → the result for each pair of its answers that has votes; skipped, flagged and unparsed ones do not count.

    Args:
        votes: valid votes of any number of voters.
        aggregate: `majority` counts every vote once, `weighted` a vote for "much better" twice; `dawid_skene` counts
            voters by their error rates, which it estimates from all votes (Dawid and Skene 1979). A reviewer's
            deciding vote replaces the others.
    """
    asked: dict[QuestionKey, list[Vote]] = {}
    for vote in votes:
        if vote.outcome in DECIDED:
            asked.setdefault(vote.question, []).append(vote)
    estimated = _dawid_skene(asked) if aggregate == "dawid_skene" else {}
    decided: dict[str, list[Decided]] = {}
    for key, given in asked.items():
        deciding = tuple(vote for vote in given if vote.deciding)
        counted = _count(deciding or given, weighted=aggregate == "weighted")
        result, share, weight = counted if deciding else estimated.get(key, counted)
        conflict = {"left", "right"} <= {vote.outcome for vote in given}
        item, left, right = key
        found = Decided(left, right, result, share, weight, deciding or tuple(given), len(given), conflict)
        decided.setdefault(item, []).append(found)
    return decided


def _count(given: Sequence[Vote], *, weighted: bool) -> tuple[Result, float, float]:
    """(result, share, weight) of votes by their number."""
    counts = [vote.strength if weighted and vote.score in (0, 1) else 1 for vote in given]
    scores = [0.5 if vote.score is None else vote.score for vote in given]
    share = sum(count * score for count, score in zip(counts, scores)) / sum(counts)
    # Integers, so that equally many votes for both give exactly 0.
    lead = sum(count * round(2 * score - 1) for count, score in zip(counts, scores))
    result: Result = "left" if lead > 0 else "right" if lead < 0 else "tie"
    both_bad = sum(vote.outcome == "both_bad" for vote in given) / len(given)
    if both_bad > 0.5:
        return "both_bad", share, both_bad
    return result, share, abs(lead) / len(given)


def _dawid_skene(asked: Mapping[QuestionKey, Sequence[Vote]]) -> dict[QuestionKey, tuple[Result, float, float]]:
    """(result, share, weight) of each comparison by the probabilities of its results."""
    from palate.stats.annotation.aggregation import dawid_skene

    votes = [(key, f"{vote.kind} {vote.who}", vote.outcome) for key, given in asked.items() for vote in given]
    if not votes:
        return {}
    found = dawid_skene(votes)
    winners = found.winners()
    results = {}
    for key, row in zip(cast("tuple[QuestionKey, ...]", found.items), found.posteriors.tolist(), strict=True):
        of = dict(zip(found.labels, row, strict=True))
        for_left, for_right = of.get("left", 0.0), of.get("right", 0.0)
        share = for_left + (1 - for_left - for_right) / 2
        result = cast("Result", winners[key] or "tie")
        weight = of["both_bad"] if result == "both_bad" else abs(for_left - for_right)
        results[key] = (result, share, weight)
    return results
