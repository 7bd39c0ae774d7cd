"""Preference accuracy: how often a model ranks the chosen answer above the rejected one.

There are two kinds: by a model's *own* log-probability (for reference and policy), and by the *implied reward*
β(log π − log π_ref), which measures the change from reference to policy.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from palate.charts.text import amount
from palate.evaluation.accuracy.grouping import Groupings, figures_by_group
from palate.evaluation.logs.items import ItemValues
from palate.stats import FEW_CLUSTERS, Calibration, Interval, calibration, cluster_mean_interval, rate_interval

Average: TypeAlias = Literal["mean", "sum"]
Scores: TypeAlias = Sequence[tuple[Sequence[float], Sequence[int]]]


@dataclass(frozen=True, slots=True)
class GroupAccuracy:
    """Accuracies on a part of the pairs: a group, or the pairs whose scores differ in one dimension.

    Attributes:
        n: number of these pairs.
        prompts: number of their different prompts.
        reference: by the reference's own log-probability.
        policy: by the trained model's own log-probability.
        implied: by log π/π_ref of whole answers.
        margin: mean of log π/π_ref of the better answer minus the other, nats. Student t.
    """

    n: int
    prompts: int
    reference: Interval
    policy: Interval
    implied: Interval
    margin: Interval


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
        change: policy − reference, paired by pair. Student t.
        dimensions: accuracies by dimension, for pairs with scores in several.
        groups: accuracies by grouping and group: source, category, length gap (`evaluation.accuracy.grouping`).
        beta: β of the implied preference probability σ(β · margin); None if it was not computed.
        calibration: of that probability; None without β.
        items: values of each pair, for `palate eval compare`; None if the pairs' ids were not given.
        left_out: number of pairs that were not scored: too long, or refused by the template.
    """

    n: int
    prompts: int
    average: Average
    reference: Interval
    policy: Interval
    implied: Interval
    margin: Interval
    change: Interval
    dimensions: Mapping[str, GroupAccuracy] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, GroupAccuracy]] = field(default_factory=dict)
    beta: float | None = None
    calibration: Calibration | None = None
    items: ItemValues | None = None
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """All figures; those that were not computed are left out."""
        return as_json(self, self.items)

    @property
    def _is_same(self) -> bool:
        """Whether the policy differs from the reference on no pair."""
        return self.margin.low == self.margin.high == 0

    def lines(self) -> list[str]:
        margin, unit = self.margin, "per token" if self.average == "mean" else "summed"
        return [
            f"Reference Accuracy: {_percent(self.reference)}",
            f"Policy Accuracy: {_percent(self.policy)}",
            f"Implied-reward accuracy: {_percent(self.implied)}",
            f"Margin log π/π_ref: {margin.estimate:+.2f} nats (95 % {margin.low:+.2f} to {margin.high:+.2f})",
            *(
                f"{name}: policy {_percent(found.policy)}, implied reward {_percent(found.implied)}, "
                f"{amount(found.n, 'pair')} of {amount(found.prompts, 'prompt')}"
                for name, found in self.dimensions.items()
            ),
            *calibration_lines(self.calibration, "" if self.beta is None else f", β {self.beta:g}"),
            f"log-probabilities {unit}, {on_pairs(self.n, self.prompts)}",
            *(["note: both give every pair the same margin: a model compared with itself"] if self._is_same else []),
        ]


def preference_accuracy(
    reference: Scores,
    policy: Scores,
    *,
    prompts: Sequence[Hashable],
    average: Average = "mean",
    dimensions: Sequence[Mapping[str, tuple[float, float]]] = (),
    groupings: Groupings | None = None,
    beta: float | None = None,
    ids: Sequence[str] = (),
    hashes: Mapping[str, str] | None = None,
    name: str = "",
    left_out: int = 0,
) -> Accuracy:
    """Accuracies from two models' scores of the same pairs.

    Args:
        reference: for each pair, Σ log π of (chosen, rejected) and trained tokens of (chosen, rejected).
        policy: the same under the policy, in the same order.
        prompts: the key of each pair's prompt (`records.prompt_key`); pairs with the same prompt are a cluster.
        average: compare the log-probability of an answer per token (`mean`) or summed.
        beta: of the implied preference probability, for the calibration.
        hashes: of the pairs' content by id.
        name: of the policy, with the values of single pairs.
        left_out: number of pairs without scores.
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
        change=cluster_mean_interval([_wins(y) - _wins(x) for x, y in zip(before, after, strict=True)], prompts),
        dimensions=_by_dimension(before, after, margins, prompts, dimensions),
        groups=figures_by_group(groupings, prompts, (before, after, margins), _group),
        beta=beta,
        calibration=None if beta is None else preference_calibration([beta * value for value in margins], prompts),
        items=pair_values(name, {"policy": after, "implied": margins}, margins, prompts, ids, hashes) if ids else None,
        left_out=left_out,
    )


def win_share(differences: Sequence[float], prompts: Sequence[Hashable]) -> Interval:
    """Share of pairs with a difference (chosen − rejected) above 0, ties counted as ½, clustered by prompt."""
    return rate_interval([_wins(difference) for difference in differences], clusters=prompts)


def preference_calibration(logits: Sequence[float], prompts: Sequence[Hashable]) -> Calibration:
    """Calibration of the preference probability p = σ(logit) of chosen over rejected (Bradley–Terry).

    A prediction is the model's confidence max(p, 1 − p) in the answer that it prefers, and is right if that answer is
    chosen; a logit of 0 is a tie, ½. Ten bins of width 0.05 from 0.5 to 1, intervals clustered by prompt. The Brier
    score is the mean of (1 − p)².
    """
    confidence = [1 / (1 + math.exp(-min(abs(logit), 700.0))) for logit in logits]
    return calibration(confidence, [_wins(logit) for logit in logits], clusters=prompts, low=0.5)


def calibration_lines(found: Calibration | None, aside: str = "") -> list[str]:
    """ECE and Brier score for a terminal; no line if there are none."""
    if found is None:
        return []
    low, high = found.brier.low, found.brier.high
    return [
        f"Calibration of the preference probability{aside}: ECE {found.ece:.3f} (10 bins), "
        f"Brier score {found.brier.estimate:.3f} (95 % {low:.3f} to {high:.3f})"
    ]


def pair_values(
    name: str,
    decisions: Mapping[str, Sequence[float]],
    margins: Sequence[float],
    prompts: Sequence[Hashable],
    ids: Sequence[str],
    hashes: Mapping[str, str] | None,
) -> ItemValues:
    """The values of each pair: 1 where a difference is above 0, and the margin. Clusters are numbers of prompts."""
    numbers = {prompt: str(number) for number, prompt in enumerate(dict.fromkeys(prompts))}
    metrics: dict[str, dict[str, float | None]] = {
        metric: {item: _wins(value) for item, value in zip(ids, values, strict=True)}
        for metric, values in decisions.items()
    }
    metrics["margin"] = dict(zip(ids, margins, strict=True))
    clusters = {item: numbers[prompt] for item, prompt in zip(ids, prompts, strict=True)}
    return ItemValues(name, metrics, hashes or {}, clusters)


def as_json(found: Any, items: ItemValues | None) -> dict[str, Any]:
    """The fields of a result with the block of its items; empty fields are left out."""
    facts = asdict(found)
    facts["items"] = None if items is None else items.to_json()
    return {key: value for key, value in facts.items() if value not in (None, {})}


def on_pairs(n: int, prompts: int) -> str:
    """`on 250 held-out pairs of 50 prompts`, with a warning if there are too few prompts for exact intervals."""
    few = f" (intervals from {FEW_CLUSTERS} prompts or fewer are rough)" if prompts <= FEW_CLUSTERS else ""
    return f"on {amount(n, 'held-out pair')} of {amount(prompts, 'prompt')}{few}"


def _by_dimension(
    before: Sequence[float],
    after: Sequence[float],
    margins: Sequence[float],
    prompts: Sequence[Hashable],
    dimensions: Sequence[Mapping[str, tuple[float, float]]],
) -> dict[str, GroupAccuracy]:
    """Accuracies by dimension; pairs with equal or missing scores in a dimension are left out of it."""
    found = {}
    for name in dict.fromkeys(name for scores in dimensions for name in scores):
        signs = {
            index: 1.0 if scores[name][0] > scores[name][1] else -1.0
            for index, scores in enumerate(dimensions)
            if name in scores and scores[name][0] != scores[name][1]
        }
        if signs:
            signed = [[sign * values[index] for index, sign in signs.items()] for values in (before, after, margins)]
            found[name] = _group([prompts[index] for index in signs], signed)
    return found


def _group(prompts: Sequence[Hashable], parts: Sequence[Sequence[float]]) -> GroupAccuracy:
    """The accuracies of some pairs, from their differences before and after, and their margins."""
    before, after, implied = (win_share(values, prompts) for values in parts)
    margin = cluster_mean_interval(parts[-1], prompts)
    return GroupAccuracy(len(prompts), len(set(prompts)), before, after, implied, margin)


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
