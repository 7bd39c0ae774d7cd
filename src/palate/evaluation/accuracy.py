"""Preference accuracy: how often a model ranks the chosen answer above the rejected one.

There are two kinds: by a model's *own* log-probability (for reference and policy), and by the *implied reward*
β(log π − log π_ref), which measures the change from reference to policy.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from palate.stats import FEW_CLUSTERS, Interval, cluster_mean_interval, rate_interval

Average: TypeAlias = Literal["mean", "sum"]
Scores: TypeAlias = Sequence[tuple[Sequence[float], Sequence[int]]]


@dataclass(frozen=True, slots=True)
class DimensionAccuracy:
    """Accuracies on the pairs whose scores differ in one dimension.

    Attributes:
        n: number of these pairs.
        prompts: number of their different prompts.
        reference: by the reference's own log-probability.
        policy: by the trained model's own log-probability.
        implied: by log π/π_ref of whole answers.
    """

    n: int
    prompts: int
    reference: Interval
    policy: Interval
    implied: Interval


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracies on held-out pairs with 95 % intervals, clustered by prompt.

    Attributes:
        n: number of pairs.
        prompts: number of different prompts, the independent units of the intervals.
        average: `mean` compares log-probabilities per token, `sum` those of whole answers.
        reference: share of pairs where the reference ranks chosen above rejected; a tie counts ½. `rate_interval`.
        policy: the same for the trained model.
        implied: share where log π/π_ref is higher for chosen, whole answers.
        margin: mean of log π/π_ref of chosen minus rejected, nats per answer pair (β not applied). Student t.
        dimensions: accuracies by dimension, for pairs with scores in several.
    """

    n: int
    prompts: int
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
        """Lines for a terminal."""
        margin, unit = self.margin, "per token" if self.average == "mean" else "summed"
        return [
            f"Reference Accuracy: {_percent(self.reference)}",
            f"Policy Accuracy: {_percent(self.policy)}",
            f"Implied-reward accuracy: {_percent(self.implied)}",
            f"Margin log π/π_ref: {margin.estimate:+.2f} nats (95 % {margin.low:+.2f} to {margin.high:+.2f})",
            *(
                f"{name}: policy {_percent(found.policy)}, implied reward {_percent(found.implied)}, "
                f"{found.n} pairs of {found.prompts} prompts"
                for name, found in self.dimensions.items()
            ),
            f"log-probabilities {unit}, {on_pairs(self.n, self.prompts)}",
        ]


def preference_accuracy(
    reference: Scores,
    policy: Scores,
    *,
    prompts: Sequence[Hashable],
    average: Average = "mean",
    dimensions: Sequence[Mapping[str, tuple[float, float]]] = (),
) -> Accuracy:
    """Accuracies from two models' scores of the same pairs.

    Args:
        reference: for each pair, Σ log π of (chosen, rejected) and trained tokens of (chosen, rejected).
        policy: the same under the policy, in the same order.
        prompts: the key of each pair's prompt (`records.prompt_key`); pairs with the same prompt are a cluster.
        average: compare the log-probability of an answer per token (`mean`) or summed.
        dimensions: for each pair, the scores (chosen, rejected) by dimension.
    """
    before = [_own(sums, tokens, average) for sums, tokens in reference]
    after = [_own(sums, tokens, average) for sums, tokens in policy]
    margins = [(p[0] - r[0]) - (p[1] - r[1]) for (p, _), (r, _) in zip(policy, reference, strict=True)]
    return Accuracy(
        n=len(margins),
        prompts=len(set(prompts)),
        average=average,
        reference=win_share(before, prompts),
        policy=win_share(after, prompts),
        implied=win_share(margins, prompts),
        margin=cluster_mean_interval(margins, prompts),
        dimensions=_by_dimension(before, after, margins, prompts, dimensions),
    )


def win_share(differences: Sequence[float], prompts: Sequence[Hashable]) -> Interval:
    """Share of pairs with a difference (chosen − rejected) above 0, ties counted as ½, clustered by prompt."""
    return rate_interval([_wins(difference) for difference in differences], clusters=prompts)


def on_pairs(n: int, prompts: int) -> str:
    """`on 250 held-out pairs of 50 prompts`, with a warning if there are too few prompts for exact intervals."""
    few = f" (intervals from {FEW_CLUSTERS} prompts or fewer are rough)" if prompts <= FEW_CLUSTERS else ""
    return f"on {n} held-out pairs of {prompts} prompts{few}"


def _by_dimension(
    before: Sequence[float],
    after: Sequence[float],
    margins: Sequence[float],
    prompts: Sequence[Hashable],
    dimensions: Sequence[Mapping[str, tuple[float, float]]],
) -> dict[str, DimensionAccuracy]:
    """Accuracies by dimension; pairs with equal or missing scores in a dimension are left out of it."""
    found = {}
    for name in dict.fromkeys(name for scores in dimensions for name in scores):
        signs = {
            index: 1.0 if scores[name][0] > scores[name][1] else -1.0
            for index, scores in enumerate(dimensions)
            if name in scores and scores[name][0] != scores[name][1]
        }
        if signs:
            names = [prompts[index] for index in signs]
            rates = [
                win_share([sign * values[index] for index, sign in signs.items()], names)
                for values in (before, after, margins)
            ]
            found[name] = DimensionAccuracy(len(signs), len(set(names)), *rates)
    return found


def _own(sums: Sequence[float], tokens: Sequence[int], average: Average) -> float:
    """Log-probability of chosen minus that of rejected under one model."""
    if average == "sum":
        return sums[0] - sums[1]
    return sums[0] / max(tokens[0], 1) - sums[1] / max(tokens[1], 1)


def _wins(difference: float) -> float:
    """1 for chosen, 0 for rejected, ½ for a tie."""
    return 0.5 if difference == 0 else float(difference > 0)


def _percent(interval: Interval) -> str:
    return f"{100 * interval.estimate:.1f}% (95 % {100 * interval.low:.1f} to {100 * interval.high:.1f})"
