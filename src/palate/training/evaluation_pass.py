"""One pass over the held-out rows: means over examples, their standard errors, and what health evaluates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from palate.models.reference.kinds import evaluating
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup
from palate.training.coupled import CoupledLoss, same_random_state
from palate.training.health.evaluation import Examination
from palate.training.meters import HeldOutErrors, Meter
from palate.training.methods.base import LossOutput, Method
from palate.training.online.rollouts import Rollouts
from palate.training.scoring import Scoring


class EvaluationPass:
    """Evaluates a method on held-out groups.

    Args:
        method: the loss.
        scoring: the losses of a batch.
        coupled: for a method whose loss couples all groups; the others do not use it.
        split: groups to batches of at most the token budget.
        device: where the model is.
    """

    def __init__(
        self,
        *,
        method: Method[Any],
        scoring: Scoring,
        coupled: CoupledLoss,
        split: Callable[[Sequence[EncodedGroup]], list[Batch]],
        device: torch.device,
    ) -> None:
        self._method = method
        self._scoring = scoring
        self._coupled = coupled
        self._split = split
        self._device = device

    def run(
        self,
        model: torch.nn.Module,
        steps: Iterable[Sequence[EncodedGroup]],
        examination: Examination | None,
        after_step: Callable[[], None],
    ) -> tuple[Meter, HeldOutErrors]:
        """The metrics of this process's groups; groups that are repeated to fill a batch weigh 0.

        Args:
            model: in evaluation mode.
            steps: groups, a batch of the data loader at a time.
            examination: gets every output of a method that does not couple its groups.
            after_step: called after each of `steps` that was scored.
        """
        meter, errors = Meter(self._device), HeldOutErrors()
        held_out: list[EncodedGroup] = []
        with torch.no_grad(), same_random_state(self._device):
            for groups in steps:
                if self._method.couples_batch:
                    held_out.extend(groups)
                    continue
                batches = [batch.to(self._device) for batch in self._split(groups)]
                for batch, reference in zip(batches, self._scoring.references(batches)):
                    found = self._scoring.loss(model, batch, reference)
                    self._add(batch.groups, found.output, found.weights, meter, errors)
                    if examination is not None:
                        examination.see(batch.groups, found.output)
                after_step()
            if held_out:
                output, weights = self._coupled.evaluate(model, held_out)
                in_order = [group for batch in self._split(held_out) for group in batch.groups]
                self._add(in_order, output, weights, meter, errors)
        return meter, errors

    def metrics(self, model: torch.nn.Module, groups: Sequence[EncodedGroup], rollouts: Rollouts | None) -> list[str]:
        """The names of what an evaluation measures, by scoring these groups; no random number is used up."""
        with torch.no_grad(), same_random_state(self._device), evaluating(model):
            batch = self._split(groups if rollouts is None else rollouts.held_out(groups))[0].to(self._device)
            policy = self._method.read(self._scoring.forward(model, batch), batch)
            # Only the names are wanted, so the policy's own values do for the reference.
            output = self._method.loss(policy, policy if self._method.needs_reference else None, batch)
        return sorted(self._method.summarise(dict.fromkeys(("loss", *output.metrics), 1.0)))

    def _add(
        self,
        groups: Sequence[EncodedGroup],
        output: LossOutput,
        weights: torch.Tensor,
        meter: Meter,
        errors: HeldOutErrors,
    ) -> None:
        meter.add({"loss": output.loss, **output.metrics}, weights)
        errors.add(groups, *self._method.by_row(groups, output, weights))
