"""Learning from single answers that are labelled as wanted or unwanted: kto, apo_zero_unpaired, bco."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from palate.config.run import KtoConfig
from palate.models.scoring.logps import Logps
from palate.objectives import UNPAIRED, Modifiers, Term, UnpairedLogps, implicit_reward, unpaired_loss
from palate.objectives.unpaired import kl_estimate
from palate.records import LabelledCompletion
from palate.text.groups import EncodedGroup
from palate.training.methods.base import Arranged, LossOutput, Method, Rows, Traits, detached, with_rewards
from palate.training.methods.mismatch import mismatched

# Highest ratio of the classes' weighted sizes that the KTO paper recommends (section 4.2 of 2402.01306).
_MAX_CLASS_RATIO = 4 / 3
_ROUNDING = 1e-9


class Kto(Method[Logps]):
    """Unpaired objectives.

    kto estimates the KL to the reference from mismatched completions: each group gets another row's answer as its
    second completion, by one permutation of the whole split, so that a step of any size has an estimate.
    """

    def __init__(self, config: KtoConfig) -> None:
        row, options = config.objectives[0].row, config.objective_options
        self._name = row.name
        self._arguments = row.arguments(options)
        self._class_weights = (options["kto_chosen_weight"], options["kto_rejected_weight"])
        self._modifiers = Modifiers(**row.modifier_arguments(options))
        self._beta = row.reward_scale(options)
        self._cutoff_len = config.cutoff_len
        self._mismatches = row.name == "kto"
        self._shifts = "delta" in row.inputs
        self.traits = Traits(
            name=row.name,
            record=LabelledCompletion,
            needs_reference=row.needs_reference,
            couples_batch=row.couples(options),
            start_loss=lambda _: row.loss_at_start(options),
        )

    def arrange(self, groups: Sequence[EncodedGroup], *, seed: int) -> Arranged:
        arranged = mismatched(groups, seed=seed, cutoff_len=self._cutoff_len) if self._mismatches else groups
        return Arranged(arranged, self._class_notices(groups))

    def _class_notices(self, groups: Sequence[EncodedGroup]) -> tuple[str, ...]:
        """A warning if a class is missing, or if the ratio of the classes is outside the KTO paper's range."""
        wanted = sum(group.labels[0] > 0 for group in groups)
        unwanted = len(groups) - wanted
        if not wanted or not unwanted:
            have, lack = ("wanted", "unwanted") if wanted else ("unwanted", "wanted")
            return (
                f"warning: all {len(groups)} answers are {have}: pref_loss {self._name} learns from the difference to "
                f"{lack} ones; add some, or use stage: sft. kto_chosen_weight and kto_rejected_weight balance two "
                "classes, they cannot replace one",
            )
        chosen, rejected = self._class_weights
        if not chosen or not rejected:
            return ()
        ratio = (chosen * wanted) / (rejected * unwanted)
        if 1.0 - _ROUNDING <= ratio <= _MAX_CLASS_RATIO + _ROUNDING:
            return ()
        # The larger class keeps its weight: weights above 1 would raise the learning rate.
        if ratio > 1.0:
            low, high = chosen * wanted / unwanted / _MAX_CLASS_RATIO, chosen * wanted / unwanted
            key = "kto_rejected_weight"
        else:
            low, high = rejected * unwanted / wanted, rejected * unwanted / wanted * _MAX_CLASS_RATIO
            key = "kto_chosen_weight"
        return (
            f"warning: {wanted} wanted and {unwanted} unwanted answers with weights {chosen:g} and {rejected:g}: the "
            "KTO paper (2402.01306) recommends kto_chosen_weight · wanted / (kto_rejected_weight · unwanted) between 1 "
            f"and 4/3, here it is {ratio:.2f}; set {key} between {low:.2f} and {high:.2f}",
        )

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        unpaired = self._unpaired(policy, reference, rows)
        if training and self._shifts:
            rewards = self._beta * (unpaired.logps - unpaired.ref_logps)
            self.state = with_rewards(self.state, rewards)
        delta = self.state.get("reward_mean")
        shift = {"delta": delta} if self._shifts else {}
        loss = unpaired_loss(unpaired, Term(UNPAIRED[self._name], {**self._arguments, **shift}), self._modifiers)
        with torch.no_grad():
            return LossOutput(loss, detached(self._metrics(unpaired, delta)))

    def _unpaired(self, policy: Logps, reference: Logps | None, rows: Rows) -> UnpairedLogps:
        assert reference is not None  # every unpaired objective needs one
        sizes = torch.bincount(rows.group_of, minlength=len(rows.groups))
        own = sizes.cumsum(0) - sizes  # [G], index of each group's answer among the C completions
        other = own[sizes > 1] + 1  # index of each mismatched completion
        labels = [group.labels[0] > 0 for group in rows.groups]
        return UnpairedLogps(
            logps=policy.sums[own],
            ref_logps=reference.sums[own],
            tokens=policy.tokens[own],
            desirable=torch.tensor(labels, device=policy.sums.device),
            kl_logps=policy.sums[other] if self._mismatches else None,
            ref_kl_logps=reference.sums[other] if self._mismatches else None,
        )

    def _metrics(self, rows: UnpairedLogps, delta: float | None) -> dict[str, Tensor]:
        """Metrics of each row, name → float32 [n].

        An answer counts as correct if its reward is above the shift (wanted) or below it (unwanted).
        """
        rewards = implicit_reward(rows.logps, rows.tokens, rows.ref_logps, beta=self._beta, average=False)
        kl = kl_estimate(rows) if self._mismatches else None
        if kl is not None:
            shift = self._beta * kl
        elif self._shifts:
            shift = rewards.mean() if delta is None else rewards.new_tensor(delta)
        else:
            shift = rewards.new_zeros(())
        wanted = rows.desirable
        correct = 0.5 * (1.0 + torch.where(wanted, rewards - shift, shift - rewards).sign())
        metrics = {"rewards/accuracies": correct}
        for name, values in (("rewards", rewards), ("logps", rows.logps), ("ref_logps", rows.ref_logps)):
            metrics[f"{name}/chosen"] = torch.where(wanted, values, torch.nan)
            metrics[f"{name}/rejected"] = torch.where(wanted, torch.nan, values)
        if kl is not None:
            metrics["kl"] = kl.expand_as(rewards)
        return metrics
