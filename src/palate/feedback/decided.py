"""The result of several votes on two answers: by majority, by weighted votes, or by Dawid and Skene's model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from palate.feedback.vote_filter import COUNTED
from palate.feedback.votes import Vote

Aggregate: TypeAlias = Literal["majority", "weighted", "dawid_skene"]
Result: TypeAlias = Literal["left", "right", "tie", "both_bad"]
Compared: TypeAlias = tuple[str, int, int]
"""(item, left, right): two answers of a row."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The result of the votes on two answers of one row.

    Attributes:
        left, right: indices of the answers, left below right.
        result: the better answer; `both_bad` if more than half of the votes say so.
        share: share of the votes for left, ties and both bad counted as ½, in [0, 1].
        weight: |votes for − votes against| / votes, in [0, 1]; `weighted`: a vote for "much better" counts twice, so
            that the weight is at most 2; `dawid_skene`: the difference of the two probabilities.
        cast: the votes that count.
    """

    left: int
    right: int
    result: Result
    share: float
    weight: float
    cast: tuple[Vote, ...]

    @property
    def votes(self) -> int:
        """Number of votes that count: wins, ties and both bad."""
        return len(self.cast)

    @property
    def both_bad(self) -> int:
        """Number of votes that call both answers bad."""
        return sum(vote.outcome == "both_bad" for vote in self.cast)

    @property
    def conflict(self) -> bool:
        """Whether each answer has a vote for it."""
        return {"left", "right"} <= {vote.outcome for vote in self.cast}


def decide(votes: Iterable[Vote], aggregate: Aggregate = "majority") -> dict[str, list[Decided]]:
    """Item → the result for each pair of its answers that has votes; skipped, flagged and unparsed ones do not count.

    Args:
        votes: valid votes of any number of voters.
        aggregate: `majority` counts every vote once, `weighted` a vote for "much better" twice; `dawid_skene` counts
            voters by their error rates, which it estimates from all votes (Dawid and Skene 1979).
    """
    asked: dict[Compared, list[Vote]] = {}
    for vote in votes:
        if vote.outcome in COUNTED:
            asked.setdefault((vote.item, vote.left, vote.right), []).append(vote)
    if aggregate == "dawid_skene":
        results = _dawid_skene(asked)
    else:
        results = {key: _counted(key, given, weighted=aggregate == "weighted") for key, given in asked.items()}
    decided: dict[str, list[Decided]] = {}
    for (item, _, _), result in results.items():
        decided.setdefault(item, []).append(result)
    return decided


def _counted(key: Compared, given: Sequence[Vote], *, weighted: bool) -> Decided:
    _, left, right = key
    counts = [vote.strength if weighted and vote.score in (0, 1) else 1 for vote in given]
    scores = [0.5 if vote.score is None else vote.score for vote in given]
    share = sum(count * score for count, score in zip(counts, scores)) / sum(counts)
    # Integers, so that equally many votes for both give exactly 0.
    lead = sum(count * round(2 * score - 1) for count, score in zip(counts, scores))
    result: Result = "left" if lead > 0 else "right" if lead < 0 else "tie"
    if 2 * sum(vote.outcome == "both_bad" for vote in given) > len(given):
        result = "both_bad"
    return Decided(left, right, result, share, abs(lead) / len(given), tuple(given))


def _dawid_skene(asked: Mapping[Compared, Sequence[Vote]]) -> dict[Compared, Decided]:
    from palate.stats.aggregation import dawid_skene

    votes = [(key, f"{vote.kind} {vote.who}", vote.outcome) for key, given in asked.items() for vote in given]
    if not votes:
        return {}
    found = dawid_skene(votes)
    winners = found.winners()
    decided = {}
    for key, row in zip(cast("tuple[Compared, ...]", found.items), found.posteriors.tolist(), strict=True):
        of = dict(zip(found.labels, row, strict=True))
        for_left, for_right = of.get("left", 0.0), of.get("right", 0.0)
        result = cast("Result", winners[key] or "tie")
        share = for_left + (1 - for_left - for_right) / 2
        decided[key] = Decided(key[1], key[2], result, share, abs(for_left - for_right), tuple(asked[key]))
    return decided
