"""Weighted means over examples, summed over micro-batches, steps and ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch

from palate.stats import standard_error
from palate.text.groups import EncodedGroup
from palate.training.processes import sum_over_ranks


class Meter:
    """Accumulates Σ w·x and Σ w per metric on the device; only `means` waits for the device.

    A metric is a mean over examples, never over batches: a short last batch does not count double.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, torch.Tensor] = {}
        self._weights: dict[str, torch.Tensor] = {}

    def add(
        self,
        values: Mapping[str, torch.Tensor],
        weights: torch.Tensor,
        own_weights: Mapping[str, torch.Tensor] = MappingProxyType({}),
    ) -> None:
        """Add one value per example.

        Args:
            values: name → float [G]; NaN where an example has no such value. Only `loss` keeps its NaN, because every
                example has a loss.
            weights: float [G]; an example of weight 0 does not count, even with a NaN.
            own_weights: name → float [G], used instead of `weights` for that metric.
        """
        zero = torch.zeros((), device=self._device, dtype=torch.float64)
        for name, value in values.items():
            weight = own_weights.get(name, weights)
            counted = weight > 0 if name == "loss" else (weight > 0) & ~value.isnan()
            terms = torch.where(counted, value.detach().double() * weight.double(), zero)
            self._sums[name] = self._sums.get(name, zero) + terms.sum()
            self._weights[name] = self._weights.get(name, zero) + torch.where(counted, weight.double(), zero).sum()

    def merge(self, other: Meter) -> None:
        """Add the sums of another meter."""
        for name, value in other._sums.items():
            zero = torch.zeros_like(value)
            self._sums[name] = self._sums.get(name, zero) + value
            self._weights[name] = self._weights.get(name, zero) + other._weights[name]

    def means(self) -> dict[str, float]:
        """The mean of each metric over all ranks. Every rank must have added the same names."""
        if not self._sums:
            return {}
        names = sorted(self._sums)
        table = torch.stack([torch.stack([self._sums[name], self._weights[name]]) for name in names])
        totals = sum_over_ranks(table).tolist()
        return {name: total / weight for name, (total, weight) in zip(names, totals) if weight > 0}

    def reset(self) -> None:
        self._sums.clear()
        self._weights.clear()


@dataclass(frozen=True, slots=True)
class HeldOutRow:
    """One row of an evaluation.

    Attributes:
        prompt: key of the prompt, equal for rows with the same prompt.
        values: name → value; NaN where the row has none.
        weights: name → weight in the mean over rows.
        length_difference: trained tokens of the first completion minus those of the second; None unless there are two.
    """

    prompt: bytes
    values: Mapping[str, float]
    weights: Mapping[str, float]
    length_difference: int | None


def held_out_rows(
    groups: Sequence[EncodedGroup],
    values: Mapping[str, torch.Tensor],
    weights: torch.Tensor,
    own_weights: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> list[HeldOutRow]:
    """The rows of weight above 0.

    Args:
        groups: the rows, G of them.
        values: name → float [G]; NaN where a row has no such value.
        weights: float [G], as in the mean.
        own_weights: as for `Meter.add`.
    """
    columns = {name: value.detach().double().tolist() for name, value in values.items()}
    weight_columns = {name: own_weights.get(name, weights).tolist() for name in values}
    return [
        HeldOutRow(
            group.prompt_key,
            {name: column[i] for name, column in columns.items()},
            {name: column[i] for name, column in weight_columns.items()},
            _length_difference(group),
        )
        for i, (group, weight) in enumerate(zip(groups, weights.tolist(), strict=True))
        if weight > 0
    ]


def _length_difference(group: EncodedGroup) -> int | None:
    if len(group.completions) != 2:
        return None
    first, second = (int(completion.trained.sum()) for completion in group.completions)
    return first - second


def standard_errors(rows: Sequence[HeldOutRow]) -> dict[str, float]:
    """`rows`, `prompts` (distinct ones) and `se/NAME`, the standard error of each metric's mean, clustered by prompt.

    A metric with values for fewer than two prompts gets no standard error.
    """
    found: dict[str, float] = {"rows": len(rows), "prompts": len({row.prompt for row in rows})}
    for name in dict.fromkeys(name for row in rows for name in row.values):
        measured = [
            row for row in rows if row.weights.get(name, 0.0) > 0 and math.isfinite(row.values.get(name, math.nan))
        ]
        if len({row.prompt for row in measured}) > 1:
            values = np.array([row.values[name] for row in measured])
            weights = np.array([row.weights[name] for row in measured])
            # The error of a weighted mean m is that of the plain mean of w·(x − m) / mean(w).
            residuals = weights * (values - np.average(values, weights=weights)) / weights.mean()
            found[f"se/{name}"] = standard_error(residuals, [row.prompt for row in measured])
    return found
