"""One pass over the held-out rows: sums for the means over examples, and the values of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from palate.models.upstream import evaluating
from palate.text.batch import Batch
from palate.text.groups import EncodedGroup
from palate.training.coupled import CoupledLoss, same_random_state
from palate.training.meters import HeldOutRow, Meter, held_out_rows
from palate.training.methods.base import LossOutput, summarise
from palate.training.scoring import Scoring, policy_scores


def evaluate_groups(
    model: torch.nn.Module,
    steps: Iterable[Sequence[EncodedGroup]],
    scoring: Scoring,
    coupled: CoupledLoss,
    *,
    after_step: Callable[[], None],
) -> tuple[Meter, list[HeldOutRow]]:
    """The sums and rows of this process's groups; groups that are repeated to fill a batch have weight 0.

    Args:
        model: in evaluation mode.
        steps: groups, one batch of the data loader at a time.
        scoring: the losses of a batch.
        coupled: the losses of all groups, for a method that couples them; divides groups into batches for any method.
        after_step: called after each of `steps` that was scored.
    """
    device, meter, rows = coupled.device, Meter(coupled.device), list[HeldOutRow]()
    held_out: list[EncodedGroup] = []

    def add(groups: Sequence[EncodedGroup], output: LossOutput, weights: torch.Tensor) -> None:
        values = {"loss": output.loss, **output.metrics}
        meter.add(values, weights, output.weights)
        rows.extend(held_out_rows(groups, values, weights, output.weights))

    with torch.no_grad(), same_random_state(device):
        for groups in steps:
            if scoring.method.traits.couples_batch:
                held_out.extend(groups)
                continue
            batches = [batch.to(device) for batch in coupled.split(groups)]
            for batch, reference in zip(batches, scoring.references(batches)):
                found = scoring.loss(model, batch, reference)
                add(batch.groups, found.output, found.weights)
            after_step()
        if held_out:
            in_order = [group for batch in coupled.split(held_out) for group in batch.groups]
            add(in_order, *coupled.evaluate(model, held_out))
    return meter, rows


def metric_names(model: torch.nn.Module, scoring: Scoring, batch: Batch) -> list[str]:
    """The names of an evaluation's metrics, found by scoring this batch; the random state is unchanged."""
    method = scoring.method
    with torch.no_grad(), same_random_state(batch.input_ids.device), evaluating(model):
        policy = policy_scores(scoring.forward(model, batch), batch)
        # Only the names are needed, so the policy's values are passed in place of the reference's.
        output = method.loss(policy, policy if method.traits.needs_reference else None, batch)
    return sorted(summarise(dict.fromkeys(("loss", *output.metrics), 0.0)))
