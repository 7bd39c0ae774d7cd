"""Learning from single answers that are labelled as wanted or unwanted: kto, apo_zero_unpaired, bco."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from palate.config.objectives.lookup import objective
from palate.models.score import Logps
from palate.objectives import UNPAIRED, Modifiers, RunningMean, Term, UnpairedLogps, implicit_reward, unpaired_loss
from palate.objectives.unpaired import kl_estimate
from palate.records import LabelledCompletion, Record
from palate.text.encode import EncodedGroup
from palate.training.methods.base import LogpsMethod, LossOutput, Rows
from palate.training.methods.mismatch import mismatched

_MOST_WANTED = 4 / 3  # of the classes' weighted sizes, by the KTO paper (section 4.2 of 2402.01306)
_ROUNDING = 1e-9


class Kto(LogpsMethod):
    """Unpaired objectives.

    kto estimates the KL to the reference from mismatched completions: each group gets another row's answer as its
    second completion, by one permutation of the whole split, so that a step of any size has an estimate.

    Args:
        name: an objective of the unpaired family.
        options: its resolved options, by config key.
        cutoff_len: longest prompt + completion in tokens, for mismatched ones too.
    """

    record: type[Record] = LabelledCompletion

    def __init__(self, name: str, options: Mapping[str, Any], *, cutoff_len: int | None = None) -> None:
        row = objective(name)
        self.name = row.name
        self.needs_reference = row.needs_reference
        self.couples_batch = row.couples(options)
        self.start_loss = row.loss_at_start(options)
        self._arguments = row.arguments(options)
        self._class_weights = (options["kto_chosen_weight"], options["kto_rejected_weight"])
        self._modifiers = Modifiers(**row.modifier_arguments(options))
        self._beta = row.reward_scale(options)
        self._cutoff_len = cutoff_len
        self._mismatches = self.name == "kto"
        self._shifts = "delta" in row.inputs
        self._running = RunningMean()

    def arrange(self, groups: Sequence[EncodedGroup], *, seed: int) -> list[EncodedGroup]:
        return mismatched(groups, seed=seed, cutoff_len=self._cutoff_len) if self._mismatches else list(groups)

    def notices(self, groups: Sequence[EncodedGroup]) -> list[str]:
        """A warning where one class is missing, or outweighs the other beyond what the KTO paper recommends."""
        wanted = sum(group.labels[0] > 0 for group in groups)
        unwanted = len(groups) - wanted
        if not wanted or not unwanted:
            have, lack = ("wanted", "unwanted") if wanted else ("unwanted", "wanted")
            return [
                f"warning: all {len(groups)} answers are {have}: pref_loss {self.name} learns from the difference to "
                f"{lack} ones; add some, or use stage: sft. kto_chosen_weight and kto_rejected_weight balance two "
                "classes, they cannot replace one"
            ]
        chosen, rejected = self._class_weights
        if not chosen or not rejected:
            return []
        ratio = (chosen * wanted) / (rejected * unwanted)
        if 1.0 - _ROUNDING <= ratio <= _MOST_WANTED + _ROUNDING:
            return []
        # The larger class keeps its weight: weights above 1 would raise the learning rate.
        if ratio > 1.0:
            low, high = chosen * wanted / unwanted / _MOST_WANTED, chosen * wanted / unwanted
            key = "kto_rejected_weight"
        else:
            low, high = rejected * unwanted / wanted, rejected * unwanted / wanted * _MOST_WANTED
            key = "kto_chosen_weight"
        return [
            f"warning: {wanted} wanted and {unwanted} unwanted answers with weights {chosen:g} and {rejected:g}: the "
            "KTO paper (2402.01306) recommends kto_chosen_weight · wanted / (kto_rejected_weight · unwanted) between 1 "
            f"and 4/3, here it is {ratio:.2f}; set {key} between {low:.2f} and {high:.2f}"
        ]

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows) -> LossOutput:
        unpaired = self._unpaired(policy, reference, rows)
        shift = {"delta": self._running.mean if self._running.count else None} if self._shifts else {}
        loss = unpaired_loss(unpaired, Term(UNPAIRED[self.name], {**self._arguments, **shift}), self._modifiers)
        with torch.no_grad():
            metrics = self._metrics(unpaired, shift.get("delta"))
        return LossOutput(loss, {name: value.detach() for name, value in metrics.items()})

    def observe(self, policy: Logps, reference: Logps | None, rows: Rows) -> None:
        """BCO's reward shift is the mean of all rewards so far, this step's included."""
        if self._shifts:
            unpaired = self._unpaired(policy, reference, rows)
            self._running = self._running.updated(self._beta * (unpaired.logps - unpaired.ref_logps))

    def summarise(self, metrics: dict[str, float]) -> dict[str, float]:
        """The margin is between the means of the wanted and of the unwanted answers: no single row has one."""
        chosen, rejected = metrics.get("rewards/chosen"), metrics.get("rewards/rejected")
        return metrics if chosen is None or rejected is None else {**metrics, "rewards/margins": chosen - rejected}

    def state(self) -> dict[str, float]:
        running = self._running
        return {"rewards_seen": running.count, "reward_mean": running.mean} if running.count else {}

    def restore(self, state: Mapping[str, float]) -> None:
        self._running = RunningMean(int(state["rewards_seen"]), state["reward_mean"])

    def _unpaired(self, policy: Logps, reference: Logps | None, rows: Rows) -> UnpairedLogps:
        assert reference is not None  # every unpaired objective needs one
        sizes = torch.bincount(rows.group_of, minlength=len(rows.groups))
        own = sizes.cumsum(0) - sizes
        other = own[sizes > 1] + 1
        labels = [group.labels[0] > 0 for group in rows.groups]
        return UnpairedLogps(
            logps=policy.sums[own],
            ref_logps=reference.sums[own],
            tokens=policy.tokens[own],
            desirable=torch.tensor(labels, device=policy.sums.device),
            kl_logps=policy.sums[other] if self._mismatches else None,
            ref_kl_logps=reference.sums[other] if self._mismatches else None,
        )

    def _metrics(self, rows: UnpairedLogps, delta: float | None) -> dict[str, torch.Tensor]:
        rewards = implicit_reward(rows.logps, rows.tokens, rows.ref_logps, beta=self._beta, average=False)
        kl = kl_estimate(rows) if self._mismatches else None
        if kl is not None:
            shift = self._beta * kl
        elif self._shifts:
            shift = rewards.mean() if delta is None else rewards.new_tensor(delta)
        else:
            shift = rewards.new_zeros(())
        wanted = rows.desirable
        right = 0.5 * (1.0 + torch.where(wanted, rewards - shift, shift - rewards).sign())
        metrics = {"rewards/accuracies": right}
        for name, values in (("rewards", rewards), ("logps", rows.logps), ("ref_logps", rows.ref_logps)):
            metrics[f"{name}/chosen"] = torch.where(wanted, values, torch.nan)
            metrics[f"{name}/rejected"] = torch.where(wanted, torch.nan, values)
        if kl is not None:
            metrics["kl"] = kl.expand_as(rewards)
        return metrics
