"""Preference accuracy: how often a model ranks the chosen answer above the rejected one.

Two questions, never mixed: does the model's *own* log-probability of chosen exceed rejected's (asked of reference and
policy alike), and does the *implied reward* β(log π − log π_ref), which is about the change between the two?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from palate.stats import Interval, mean_interval, wilson
from palate.text.encode import EncodedGroup

Average: TypeAlias = Literal["mean", "sum"]
Scores: TypeAlias = Sequence[tuple[Sequence[float], Sequence[int]]]


@dataclass(frozen=True, slots=True)
class DimensionAccuracy:
    """Of the pairs that one dimension decides, how many are ordered as it orders them. Wilson intervals.

    Attributes:
        n: pairs with two different scores in this dimension.
        reference: by the reference's own log-probability.
        policy: by the trained model's.
        implied: by log π/π_ref of whole answers.
    """

    n: int
    reference: Interval
    policy: Interval
    implied: Interval


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracies on n held-out pairs, each with its interval.

    Attributes:
        n: pairs.
        average: `mean` compares log-probabilities per token, `sum` those of whole answers.
        reference: share of pairs where the reference ranks chosen above rejected; a tie counts ½. Wilson.
        policy: the same for the trained model. Wilson.
        implied: share where log π/π_ref is higher for chosen, whole answers. Wilson.
        margin: mean of log π/π_ref of chosen minus rejected, nats per answer pair (β not applied). Student t.
        dimensions: of pairs that are scored on several, each dimension's accuracies.
    """

    n: int
    average: Average
    reference: Interval
    policy: Interval
    implied: Interval
    margin: Interval
    dimensions: Mapping[str, DimensionAccuracy] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        if not self.dimensions:
            del found["dimensions"]
        return found

    def lines(self) -> list[str]:
        """For a terminal: the two accuracies first."""
        margin = self.margin
        return [
            f"Reference Accuracy: {_percent(self.reference)}",
            f"Policy Accuracy: {_percent(self.policy)}",
            f"Implied-reward accuracy: {_percent(self.implied)}",
            f"Margin log π/π_ref: {margin.estimate:+.2f} nats (95 % {margin.low:+.2f} to {margin.high:+.2f})",
            *(
                f"{name}: policy {_percent(one.policy)}, implied reward {_percent(one.implied)}, {one.n} pairs"
                for name, one in self.dimensions.items()
            ),
            f"on {self.n} held-out pairs, log-probabilities {'per token' if self.average == 'mean' else 'summed'}",
        ]


def preference_accuracy(
    reference: Scores,
    policy: Scores,
    *,
    average: Average = "mean",
    dimensions: Sequence[Mapping[str, tuple[float, float]]] = (),
) -> Accuracy:
    """Compare two models' scores of the same pairs.

    Args:
        reference: per pair (Σ log π of chosen and rejected), (trained tokens of each), under the reference.
        policy: the same under the policy, in the same order.
        average: how a model's own log-probability of an answer is taken.
        dimensions: per pair the scores of chosen and rejected by dimension, where pairs are scored on some.
    """
    before = [_own(sums, tokens, average) for sums, tokens in reference]
    after = [_own(sums, tokens, average) for sums, tokens in policy]
    margins = [(p[0] - r[0]) - (p[1] - r[1]) for (p, _), (r, _) in zip(policy, reference, strict=True)]
    n = len(margins)
    return Accuracy(
        n=n,
        average=average,
        reference=wilson(sum(map(_wins, before)), n),
        policy=wilson(sum(map(_wins, after)), n),
        implied=wilson(sum(map(_wins, margins)), n),
        margin=mean_interval(margins),
        dimensions=_by_dimension(before, after, margins, dimensions),
    )


def _by_dimension(
    before: Sequence[float],
    after: Sequence[float],
    margins: Sequence[float],
    dimensions: Sequence[Mapping[str, tuple[float, float]]],
) -> dict[str, DimensionAccuracy]:
    """A pair that a dimension ties or lacks says nothing about it."""
    found = {}
    for name in dict.fromkeys(name for scores in dimensions for name in scores):
        signs = [
            (place, 1.0 if scores[name][0] > scores[name][1] else -1.0)
            for place, scores in enumerate(dimensions)
            if name in scores and scores[name][0] != scores[name][1]
        ]
        if signs:
            rates = [
                wilson(sum(_wins(sign * values[place]) for place, sign in signs), len(signs))
                for values in (before, after, margins)
            ]
            found[name] = DimensionAccuracy(len(signs), *rates)
    return found


def pairs_only(groups: Sequence[EncodedGroup]) -> list[EncodedGroup]:
    """The groups with two completions."""
    return [group for group in groups if len(group.completions) == 2]


def _own(sums: Sequence[float], tokens: Sequence[int], average: Average) -> float:
    if average == "sum":
        return sums[0] - sums[1]
    return sums[0] / max(tokens[0], 1) - sums[1] / max(tokens[1], 1)


def _wins(difference: float) -> float:
    """1 for chosen, 0 for rejected, ½ for a tie."""
    return 0.5 if difference == 0 else float(difference > 0)


def _percent(interval: Interval) -> str:
    return f"{100 * interval.estimate:.1f}% (95 % {100 * interval.low:.1f} to {100 * interval.high:.1f})"
