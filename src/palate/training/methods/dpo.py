"""Preference training on pairs (K = 2), with any paired objective or a weighted mixture of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from palate.config.objectives.lookup import Member, loss_at_start
from palate.config.run import DpoConfig
from palate.models.scoring.logps import Logps
from palate.objectives import PAIRED, Modifiers, PairLogps, Term, accuracy, implicit_rewards, paired_loss
from palate.objectives.modifiers import length_discount, sum_by_completion, wpo_weights
from palate.objectives.paired import log_ratios
from palate.plugins import load_plugin
from palate.records import PreferencePair
from palate.training.methods.base import LossOutput, Method, Rows, Traits, detached, with_rewards


class Dpo(Method[Logps]):
    """Paired objectives with their options.

    In a mixture, rewards are in the units of the first objective. Modifiers act on the sum, so all members have the
    same ones.
    """

    def __init__(self, config: DpoConfig) -> None:
        self._members = members = config.objectives
        row, options = members[0].row, members[0].options
        self._modifiers = Modifiers(**row.modifier_arguments(options))
        self._average = row.averages(options)
        self._reference_free = not row.needs_reference
        self._beta = row.reward_scale(options)
        # β of the implicit rewards whose running mean BCO subtracts; None if no objective does.
        shifted = (member for member in members if "delta" in member.row.inputs or self._modifiers.bco)
        self._shift_beta = next((float(member.options["pref_beta"]) for member in shifted), None)
        mixture = " + ".join(f"{member.weight:g} {member.row.name}" for member in members)
        self.traits = Traits(
            name=mixture if len(members) > 1 else row.name,
            record=PreferencePair,
            needs_reference=any(member.row.needs_reference for member in members),
            couples_batch=any(member.row.couples(member.options) for member in members),
            square_sums=self._modifiers.weighting,
            start_loss=lambda _: loss_at_start(members),
        )

    def pairs(self, policy: Logps, reference: Logps | None, rows: Rows) -> PairLogps:
        """The log-probabilities of the rows as n pairs, the input of the objectives."""
        del rows
        return pair_logps(policy, reference)

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        pairs, discounted = self.pairs(policy, reference, rows), self._discounted(policy, reference, rows)
        if training and self._shift_beta is not None:
            rewards = self._shift_beta * torch.cat(log_ratios(discounted or pairs))
            self.state = with_rewards(self.state, rewards)
        delta = self.state.get("reward_mean")
        loss = paired_loss(
            pairs,
            [_term(member, delta) for member in self._members],
            self._modifiers,
            discounted=discounted,
            weights=self._weights(policy, rows),
            delta=delta,
        )
        with torch.no_grad():
            return LossOutput(loss, detached(self.metrics(pairs)))

    def metrics(self, pairs: PairLogps) -> dict[str, Tensor]:
        """Metrics of each pair, name → float32 [n]."""
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

    def _discounted(self, policy: Logps, reference: Logps | None, rows: Rows) -> PairLogps | None:
        """LD-DPO: the pairs with weight α for tokens beyond the shorter completion's length; None if α is 1."""
        alpha = self._modifiers.ld_alpha
        if alpha == 1.0:
            return None
        partner = policy.tokens.view(-1, 2).flip(1).flatten()  # [C], length of the pair's other completion
        weights = length_discount(rows.completion_of, policy.tokens, partner, alpha=alpha)

        def discounted(logps: Logps) -> Logps:
            sums = sum_by_completion(logps.token_logps * weights, rows.completion_of, rows.completions)
            return replace(logps, sums=sums)

        return self.pairs(discounted(policy), None if reference is None else discounted(reference), rows)

    def _weights(self, policy: Logps, rows: Rows) -> Tensor | None:
        """WPO's weight of each pair, [n]; None without WPO."""
        if not self._modifiers.weighting or policy.log_square_sums is None:
            return None
        weights = wpo_weights(policy.token_logps, policy.log_square_sums, rows.completion_of, policy.tokens)
        return weights[0::2] * weights[1::2]


def _term(member: Member, delta: float | None) -> Term:
    shift = {"delta": delta} if "delta" in member.row.inputs else {}
    loss = load_plugin("losses", member.row.name) or PAIRED[member.row.name]
    return Term(loss, {**member.row.arguments(member.options), **shift}, member.weight)


def pair_logps(policy: Logps, reference: Logps | None) -> PairLogps:
    """n pairs from completions [2n] in group order (chosen, rejected, chosen, …)."""
    return PairLogps(
        chosen=policy.sums[0::2],
        rejected=policy.sums[1::2],
        chosen_tokens=policy.tokens[0::2],
        rejected_tokens=policy.tokens[1::2],
        ref_chosen=None if reference is None else reference.sums[0::2],
        ref_rejected=None if reference is None else reference.sums[1::2],
    )
