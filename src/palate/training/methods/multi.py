"""Pairs that are scored on several dimensions, with a weight for each (multi-objective DPO)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from palate.config.run import DpoConfig
from palate.errors import DataError
from palate.models.scoring.logps import Logps
from palate.objectives import PairLogps
from palate.records import AnyRecord, Dropped, PreferencePair
from palate.text.groups import EncodedGroup
from palate.training.methods.base import Arranged, Rows
from palate.training.methods.dpo import Dpo, pair_logps


class MultiObjective(Dpo):
    """`multi_soft` and `multi_margin`: the loss reads each row's `dimensions`, and accuracy is logged for each of them.

    The soft label gives the weight of a missing dimension to those that the row has (a row with none keeps its own
    order); the margin form counts no difference in it. The margin form reads pairs that are `ordered_by` one dimension.
    """

    def __init__(self, config: DpoConfig) -> None:
        super().__init__(config)
        self._weights_of: Mapping[str, float] = config.objectives[0].options["dimension_weights"]

    def arrange(self, groups: Sequence[EncodedGroup], *, seed: int) -> Arranged:
        """Every dimension that has a weight must be scored somewhere."""
        found = {name for group in groups for name in group.dimensions or ()}
        for name, weight in self._weights_of.items():
            if groups and weight and name not in found:
                near = difflib.get_close_matches(name, sorted(found), n=1)
                hint = f"did you mean {near[0]}?" if near else f"rows have {', '.join(sorted(found)) or 'none'}"
                raise DataError(
                    f"dimension_weights: no row has scores for {name}; {hint} (rows need e.g. "
                    f'dimensions: {{"{name}": {{"chosen": 5, "rejected": 3}}}})'
                )
        return super().arrange(groups, seed=seed)

    def pairs(self, policy: Logps, reference: Logps | None, rows: Rows) -> PairLogps:
        missing = (torch.nan, torch.nan)
        scores = [[(group.dimensions or {}).get(name, missing) for name in self._weights_of] for group in rows.groups]
        table = policy.sums.new_tensor(scores).view(-1, len(self._weights_of), 2)
        return replace(pair_logps(policy, reference), chosen_scores=table[..., 0], rejected_scores=table[..., 1])

    def metrics(self, pairs: PairLogps) -> dict[str, Tensor]:
        """Those of a pair, and for each dimension whether the rewards order the pair as the dimension does."""
        metrics = super().metrics(pairs)
        assert pairs.chosen_scores is not None
        assert pairs.rejected_scores is not None
        for number, name in enumerate(self._weights_of):
            order = (pairs.chosen_scores - pairs.rejected_scores)[:, number].sign()
            agrees = 0.5 * (1.0 + order * metrics["rewards/margins"].sign())
            metrics[f"rewards/accuracies/{name}"] = torch.where(order == 0, torch.nan, agrees)
        return metrics


def ordered_by(dimension: str, record: AnyRecord) -> AnyRecord | Dropped:
    """The pair with the answer first that scores higher in the dimension; dropped where they tie or have no score."""
    if not isinstance(record, PreferencePair):
        return record
    dimensions = record.dimensions or {}
    if dimension not in dimensions:
        return Dropped(record.id, "no_dimension", f"has no scores for {dimension}, which orders the pairs")
    chosen, rejected = dimensions[dimension]
    if chosen == rejected:
        return Dropped(record.id, "tied_dimension", f"both answers have {chosen:g} in {dimension}")
    if chosen > rejected:
        return record
    swapped = {name: (high, low) for name, (low, high) in dimensions.items()}
    margin = None if record.margin is None else -record.margin
    return replace(record, chosen=record.rejected, rejected=record.chosen, dimensions=swapped, margin=margin)
