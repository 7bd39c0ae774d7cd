"""Preference training on pairs, K = 2: every paired objective, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from palate.config.objectives import Objective, objective
from palate.errors import ConfigError
from palate.models.logprobs import Logps
from palate.objectives import PAIRED, Modifiers, PairLogps, Term, accuracy, implicit_rewards, paired_loss
from palate.objectives.modifiers import length_discount, sum_by_completion
from palate.records import PreferencePair, Record
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup
from palate.training.methods.base import LossOutput


class Dpo:
    """A paired objective with its options; rewards, margins and accuracies are the same code for all of them.

    Args:
        name: an objective of the paired family.
        options: its resolved options, by config key (`config.objectives.resolve_options`).
    """

    record: type[Record] = PreferencePair

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        row = objective(name)
        reason = untrainable(row, options)
        if reason:
            raise ConfigError(f"pref_loss: {row.name} {reason}, which stage dpo cannot train with")
        self.name = row.name
        self.needs_reference = row.needs_reference
        self.couples_batch = row.couples_batch
        self.start_loss = row.loss_at_start(options)
        self._term = Term(PAIRED[row.name], row.arguments(options))
        self._modifiers = Modifiers(**row.modifier_arguments(options))
        self._average = row.averages(options)
        self._beta = row.reward_scale(options)

    def weight(self, group: EncodedGroup) -> float:
        return group.weight

    def loss(self, policy: Logps, reference: Logps | None, batch: Batch) -> LossOutput:
        pairs = pair_logps(policy, reference)
        discounted = None
        if self._modifiers.ld_alpha != 1.0:
            alpha = self._modifiers.ld_alpha
            discounted = pair_logps(
                _discount(policy, batch, alpha), None if reference is None else _discount(reference, batch, alpha)
            )
        loss = paired_loss(pairs, [self._term], self._modifiers, discounted=discounted)
        with torch.no_grad():
            metrics = self._metrics(pairs)
        return LossOutput(loss, metrics)

    def _metrics(self, pairs: PairLogps) -> dict[str, torch.Tensor]:
        chosen, rejected = implicit_rewards(
            pairs, beta=self._beta, average=self._average, reference_free=not self.needs_reference
        )
        metrics = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": accuracy(chosen, rejected),
            "logps/chosen": pairs.chosen,
            "logps/rejected": pairs.rejected,
        }
        if pairs.ref_chosen is not None and pairs.ref_rejected is not None:
            metrics |= {"ref_logps/chosen": pairs.ref_chosen, "ref_logps/rejected": pairs.ref_rejected}
        return {name: value.detach() for name, value in metrics.items()}


def untrainable(row: Objective, options: Mapping[str, Any]) -> str:
    """What an objective with these options reads that a pair's two log-probabilities do not give; empty for nothing.

    Computing it from less would train something else under the objective's name.
    """
    if row.family != "paired":
        return f"learns from {row.family} rows"
    if row.couples(options):
        return "compares all pairs of a step with each other"
    if "dimension_weights" in row.options:
        return "reads a score for each dimension"
    if options.get("use_weighting", False):
        return "with use_weighting: true reads the probabilities of the whole vocabulary"
    return ""


def pair_logps(policy: Logps, reference: Logps | None) -> PairLogps:
    """Completions [2n] in group order (chosen, rejected, chosen, …) as n pairs."""
    return PairLogps(
        chosen=policy.sums[0::2],
        rejected=policy.sums[1::2],
        chosen_tokens=policy.tokens[0::2],
        rejected_tokens=policy.tokens[1::2],
        ref_chosen=None if reference is None else reference.sums[0::2],
        ref_rejected=None if reference is None else reference.sums[1::2],
    )


def _discount(logps: Logps, batch: Batch, alpha: float) -> Logps:
    """LD-DPO: tokens beyond the pair's shorter completion count α."""
    partner = logps.tokens.view(-1, 2).flip(1).flatten()
    weights = length_discount(batch.completion_of, logps.tokens, partner, alpha=alpha)
    sums = sum_by_completion(logps.token_logps * weights, batch.completion_of, batch.completions)
    return Logps(sums, logps.tokens, logps.token_logps)
