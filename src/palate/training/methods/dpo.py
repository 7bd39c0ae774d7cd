"""Preference training on pairs, K = 2: every paired objective, by name, or a weighted mixture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from palate.config.objectives.lookup import Member, loss_at_start, objective
from palate.models.score import Logps
from palate.objectives import PAIRED, Modifiers, PairLogps, RunningMean, Term, accuracy, implicit_rewards, paired_loss
from palate.objectives.modifiers import length_discount, sum_by_completion, wpo_weights
from palate.objectives.paired import log_ratios
from palate.records import PreferencePair, Record
from palate.text.batch import Batch
from palate.training.methods.base import LogpsMethod, LossOutput, Rows


class Dpo(LogpsMethod):
    """Paired objectives with their options; rewards, margins and accuracies are the same code for all of them.

    Args:
        name: an objective of the paired family.
        options: its resolved options, by config key (`config.objectives.lookup.resolve_options`).
        weight: of the objective in a mixture.
        others: the other members of a mixture. Rewards are in the units of the first. Modifiers act on the sum, so all
            members have the same ones.
    """

    record: type[Record] = PreferencePair

    def __init__(
        self, name: str, options: Mapping[str, Any], *, weight: float = 1.0, others: Sequence[Member] = ()
    ) -> None:
        row = objective(name)
        self.members = (Member(row, options, weight), *others)
        self.name = " + ".join(f"{one.weight:g} {one.row.name}" for one in self.members) if others else row.name
        self.needs_reference = any(one.row.needs_reference for one in self.members)
        self.couples_batch = any(one.row.couples(one.options) for one in self.members)
        self.start_loss = loss_at_start(self.members)
        self._modifiers = Modifiers(**row.modifier_arguments(options))
        self._average = row.averages(options)
        self._reference_free = not row.needs_reference
        self._beta = row.reward_scale(options)
        self._running = RunningMean()

    def inputs(self, batch: Batch) -> dict[str, Any]:
        del batch
        return {"square_sums": True} if self._modifiers.weighting else {}

    def pairs(self, policy: Logps, reference: Logps | None, rows: Rows) -> PairLogps:
        """The pairs as the objectives read them."""
        del rows
        return pair_logps(policy, reference)

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows) -> LossOutput:
        pairs = self.pairs(policy, reference, rows)
        delta = self._running.mean if self._running.count else None
        loss = paired_loss(
            pairs,
            [_term(member, delta) for member in self.members],
            self._modifiers,
            discounted=self._discounted(policy, reference, rows),
            weights=self._weights(policy, rows),
            delta=delta,
        )
        with torch.no_grad():
            metrics = self.metrics(pairs, rows)
        return LossOutput(loss, {name: value.detach() for name, value in metrics.items()})

    def metrics(self, pairs: PairLogps, rows: Rows) -> dict[str, torch.Tensor]:
        """What is logged of each pair, [n]."""
        del rows
        chosen, rejected = implicit_rewards(
            pairs, beta=self._beta, average=self._average, reference_free=self._reference_free
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
        return metrics

    def observe(self, policy: Logps, reference: Logps | None, rows: Rows) -> None:
        """BCO's reward shift is the mean of all rewards so far, this step's included."""
        beta = self._shifted_beta()
        if beta is not None:
            pairs = self._discounted(policy, reference, rows) or pair_logps(policy, reference)
            self._running = self._running.updated(beta * torch.cat(log_ratios(pairs)))

    def state(self) -> dict[str, float]:
        running = self._running
        return {"rewards_seen": running.count, "reward_mean": running.mean} if running.count else {}

    def restore(self, state: Mapping[str, float]) -> None:
        self._running = RunningMean(int(state["rewards_seen"]), state["reward_mean"])

    def _shifted_beta(self) -> float | None:
        """β of the rewards whose running mean is kept; None where no objective reads it."""
        for member in self.members:
            if "delta" in member.row.inputs or self._modifiers.bco:
                return float(member.options["pref_beta"])
        return None

    def _discounted(self, policy: Logps, reference: Logps | None, rows: Rows) -> PairLogps | None:
        """LD-DPO: tokens beyond the pair's shorter completion count α, in policy and reference."""
        alpha = self._modifiers.ld_alpha
        if alpha == 1.0:
            return None
        partner = policy.tokens.view(-1, 2).flip(1).flatten()
        weights = length_discount(rows.completion_of, policy.tokens, partner, alpha=alpha)

        def discounted(logps: Logps) -> Logps:
            sums = sum_by_completion(logps.token_logps * weights, rows.completion_of, rows.completions)
            return replace(logps, sums=sums)

        return self.pairs(discounted(policy), None if reference is None else discounted(reference), rows)

    def _weights(self, policy: Logps, rows: Rows) -> torch.Tensor | None:
        """WPO's weight of each pair, [n]."""
        if not self._modifiers.weighting or policy.log_square_sums is None:
            return None
        weights = wpo_weights(policy.token_logps, policy.log_square_sums, rows.completion_of, policy.tokens)
        return weights[0::2] * weights[1::2]


def _term(member: Member, delta: float | None) -> Term:
    shift = {"delta": delta} if "delta" in member.row.inputs else {}
    return Term(PAIRED[member.row.name], {**member.row.arguments(member.options), **shift}, member.weight)


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
