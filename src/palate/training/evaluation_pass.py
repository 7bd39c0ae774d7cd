"""One pass over the held-out rows: sums for the means over examples, and the values of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from palate.models.casts import reuse_casts
from palate.models.reference.kinds import evaluating
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup
from palate.training.coupled import CoupledLoss, same_random_state
from palate.training.meters import HeldOutRow, Meter, held_out_rows
from palate.training.methods.base import LossOutput, Method
from palate.training.online.rollouts import Rollouts
from palate.training.scoring import Scoring


class EvaluationPass:
    """Evaluates a method on held-out groups.

    Args:
        method: the loss.
        scoring: the losses of a batch.
        coupled: used for a method whose loss couples all groups.
        split: groups to batches of at most the token budget.
        device: of the model.
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
        self, model: torch.nn.Module, steps: Iterable[Sequence[EncodedGroup]], after_step: Callable[[], None]
    ) -> tuple[Meter, list[HeldOutRow]]:
        """The sums and rows of this process's groups; groups that are repeated to fill a batch have weight 0.

        Args:
            model: in evaluation mode.
            steps: groups, one batch of the data loader at a time.
            after_step: called after each of `steps` that was scored.
        """
        meter, rows = Meter(self._device), list[HeldOutRow]()
        held_out: list[EncodedGroup] = []

        def add(groups: Sequence[EncodedGroup], output: LossOutput, weights: torch.Tensor) -> None:
            meter.add({"loss": output.loss, **output.metrics}, weights)
            rows.extend(held_out_rows(groups, *self._method.by_row(groups, output, weights)))

        with torch.no_grad(), reuse_casts(), same_random_state(self._device):
            for groups in steps:
                if self._method.couples_batch:
                    held_out.extend(groups)
                    continue
                batches = [batch.to(self._device) for batch in self._split(groups)]
                for batch, reference in zip(batches, self._scoring.references(batches)):
                    found = self._scoring.loss(model, batch, reference)
                    add(batch.groups, found.output, found.weights)
                after_step()
            if held_out:
                in_order = [group for batch in self._split(held_out) for group in batch.groups]
                add(in_order, *self._coupled.evaluate(model, held_out))
        return meter, rows

    def metrics(self, model: torch.nn.Module, groups: Sequence[EncodedGroup], rollouts: Rollouts | None) -> list[str]:
        """The names of an evaluation's metrics, found by scoring these groups; the random state is unchanged."""
        with torch.no_grad(), same_random_state(self._device), evaluating(model):
            batch = self._split(groups if rollouts is None else rollouts.held_out(groups))[0].to(self._device)
            policy = self._method.read(self._scoring.forward(model, batch), batch)
            # Only the names are needed, so the policy's values are passed in place of the reference's.
            output = self._method.loss(policy, policy if self._method.needs_reference else None, batch)
        return sorted(self._method.summarise(dict.fromkeys(("loss", *output.metrics), 1.0)))
