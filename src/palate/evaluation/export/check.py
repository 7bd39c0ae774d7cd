"""Compares an exported model with the original on held-out pairs: tokens, log-probabilities, preference accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from palate.errors import DataError
from palate.evaluation.accuracy.held_out import encode_pairs
from palate.evaluation.accuracy.rewards import is_reward_model, load_reward_model
from palate.evaluation.subject import ModelSpec, Subject
from palate.models.precision import default_device, resolve
from palate.records import PreferencePair
from palate.text.groups import EncodedGroup

BOUNDS: Mapping[str, float] = MappingProxyType({"fp32": 1e-3, "fp16": 0.01, "bf16": 0.05})
"""Largest difference of an answer's mean log-probability, in nats per token, that rounding to the dtype explains."""
ACCURACY_BOUND = 0.02
"""Largest change of preference accuracy; one pair may always change."""


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """An exported model against the original, both computed in float32.

    Attributes:
        pairs: number of pairs that were scored.
        other_tokens: pairs whose text or tokens differ; they are not scored.
        accuracy_before, accuracy_after: share of the pairs whose chosen answer has the higher log-probability per token
            (of reward models: the higher reward); a tie counts ½.
        largest: largest |Δ log π| of an answer, in nats per token (of reward models: |Δ r|).
        bound: what `largest` may be.
    """

    pairs: int
    other_tokens: int
    accuracy_before: float
    accuracy_after: float
    largest: float
    bound: float

    @property
    def difference(self) -> float:
        """Accuracy after minus before."""
        return self.accuracy_after - self.accuracy_before

    @property
    def problems(self) -> list[str]:
        """Why the export differs from the original, one line each; [] if it does not."""
        found = []
        if self.other_tokens:
            found.append(f"{self.other_tokens} pairs have other tokens: tokenizer or chat template differ")
        if self.pairs and not self.largest <= self.bound:  # NaN, too
            found.append(
                f"log-probabilities differ by up to {self.largest:.4f} nats per token, more than {self.bound:g}"
            )
        if self.pairs and not abs(self.difference) <= max(ACCURACY_BOUND, 1 / self.pairs):
            found.append(f"preference accuracy changes by {100 * self.difference:+.1f} points")
        return found

    def line(self) -> str:
        return (
            f"{self.pairs} pairs: preference accuracy {100 * self.accuracy_before:.1f}% → "
            f"{100 * self.accuracy_after:.1f}%, log-probabilities differ by at most {self.largest:.2g} nats per token "
            f"(bound {self.bound:g})"
        )


def check_export(
    before: ModelSpec, after: ModelSpec, pairs: list[PreferencePair], *, cutoff_len: int, bound: float
) -> ExportCheck:
    """Score the pairs with both models, one in memory at a time, and compare.

    Args:
        after: the export, with its own tokenizer and chat template.
        cutoff_len: longer pairs are left out, in tokens.

    Raises:
        DataError: no pair can be scored.
    """
    groups, first = _scored(before, pairs, cutoff_len)
    other, second = _scored(after, pairs, cutoff_len)
    same = [name for name, group in groups.items() if name in other and group.content_hash == other[name].content_hash]
    differing = len(groups.keys() | other.keys()) - len(same)
    if not groups:
        raise DataError("no pair can be scored")
    return ExportCheck(
        pairs=len(same),
        other_tokens=differing,
        accuracy_before=_accuracy([first[name] for name in same]),
        accuracy_after=_accuracy([second[name] for name in same]),
        largest=max((abs(a - b) for name in same for a, b in zip(first[name], second[name], strict=True)), default=0.0),
        bound=bound,
    )


def _scored(
    spec: ModelSpec, pairs: list[PreferencePair], cutoff_len: int
) -> tuple[dict[str, EncodedGroup], dict[str, list[float]]]:
    """By pair: its tokens, and the score of each answer (log π per token, or the reward)."""
    device = default_device()
    precision = resolve("fp32", device)
    if is_reward_model(spec):
        model = load_reward_model(spec, precision, device)
        groups = encode_pairs(pairs, model.template, cutoff_len)
        scores: list[list[float]] = [list(rewards) for rewards in model.score(groups)]
    else:
        subject = Subject(spec, precision, device)
        groups = encode_pairs(pairs, subject.template, cutoff_len)
        scores = [
            [total / max(1, count) for total, count in zip(sums, counts, strict=True)]
            for sums, counts in subject.score(groups)
        ]
    return {group.id: group for group in groups}, dict(zip((group.id for group in groups), scores, strict=True))


def _accuracy(scores: Sequence[Sequence[float]]) -> float:
    wins = [1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0 for chosen, rejected in scores]
    return sum(wins) / len(wins) if wins else float("nan")
