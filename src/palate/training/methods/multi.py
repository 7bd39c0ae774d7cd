"""Pairs that are scored on several dimensions, with a weight for each (multi-objective DPO)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from palate.errors import DataError
from palate.models.score import Logps
from palate.objectives import PairLogps
from palate.records import AnyRecord, Dropped, PreferencePair
from palate.text.encode import EncodedGroup
from palate.training.methods.base import Rows
from palate.training.methods.dpo import Dpo, pair_logps


class MultiObjective(Dpo):
    """`multi_soft` and `multi_margin`: the loss reads each row's `dimensions`, and accuracy is told for each of them.

    A dimension that a row lacks: the soft label gives its weight to those that the row has (a row with none keeps its
    own order), the margin form counts no difference. The margin form is ordered by one dimension: a pair that this
    dimension orders the other way is swapped, one that it ties or lacks is left out.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self._weights_of: Mapping[str, float] = options["dimension_weights"]
        self._dimensions = tuple(self._weights_of)
        self._by: str | None = options.get("dimension")

    def admit(self, record: AnyRecord) -> AnyRecord | Dropped:
        if self._by is None or not isinstance(record, PreferencePair):
            return record
        scores = (record.dimensions or {}).get(self._by)
        if scores is None:
            return Dropped(record.id, "no_dimension", f"has no scores for {self._by}, which orders the pairs")
        if scores[0] == scores[1]:
            return Dropped(record.id, "tied_dimension", f"both answers have {scores[0]:g} in {self._by}")
        if scores[0] > scores[1]:
            return record
        turned = {name: (high, low) for name, (low, high) in (record.dimensions or {}).items()}
        margin = None if record.margin is None else -record.margin
        return replace(record, chosen=record.rejected, rejected=record.chosen, dimensions=turned, margin=margin)

    def arrange(self, groups: Sequence[EncodedGroup], *, seed: int) -> list[EncodedGroup]:
        """Every dimension that has a weight must be scored somewhere."""
        found = {name for group in groups for name in group.extra.get("dimensions", {})}
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
        scores = [
            [group.extra.get("dimensions", {}).get(name, missing) for name in self._dimensions] for group in rows.groups
        ]
        table = policy.sums.new_tensor(scores).view(-1, len(self._dimensions), 2)
        return replace(pair_logps(policy, reference), chosen_scores=table[..., 0], rejected_scores=table[..., 1])

    def metrics(self, pairs: PairLogps, rows: Rows) -> dict[str, torch.Tensor]:
        """Beside a pair's own: for each dimension, whether the rewards order the pair as the dimension does."""
        metrics = super().metrics(pairs, rows)
        assert pairs.chosen_scores is not None
        assert pairs.rejected_scores is not None
        for number, name in enumerate(self._dimensions):
            order = (pairs.chosen_scores - pairs.rejected_scores)[:, number].sign()
            agrees = 0.5 * (1.0 + order * metrics["rewards/margins"].sign())
            metrics[f"rewards/accuracies/{name}"] = torch.where(order == 0, torch.nan, agrees)
        return metrics
