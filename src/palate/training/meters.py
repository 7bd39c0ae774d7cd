"""Weighted means over examples, summed over micro-batches, steps and ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch

from palate.text.encode import EncodedGroup

Row: TypeAlias = tuple[bytes, dict[str, tuple[float, float]]]
"""A row's prompt, and name → (weight, value) of its metrics."""


class Meter:
    """Accumulates Σ w·x and Σ w per metric on the device; reading it is the only synchronisation.

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
            values: name → float [G]; NaN where an example has no such value. The loss is a number for every example,
                so a NaN there stays one.
            weights: float [G]; an example of weight 0 does not count, whatever its value.
            own_weights: name → float [G], in place of `weights` for that value.
        """
        zero = torch.zeros((), device=self._device, dtype=torch.float64)
        for name, value in values.items():
            weight = own_weights.get(name, weights)
            counted = weight > 0 if name == "loss" else (weight > 0) & ~value.isnan()
            terms = torch.where(counted, value.detach().double() * weight.double(), zero)
            self._sums[name] = self._sums.get(name, zero) + terms.sum()
            self._weights[name] = self._weights.get(name, zero) + torch.where(counted, weight.double(), zero).sum()

    def merge(self, other: Meter) -> None:
        """Add what another meter holds."""
        for name, value in other._sums.items():
            zero = torch.zeros_like(value)
            self._sums[name] = self._sums.get(name, zero) + value
            self._weights[name] = self._weights.get(name, zero) + other._weights[name]

    def means(self, all_reduce: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """The means over all ranks. Every rank must hold the same names.

        Args:
            all_reduce: sums a tensor over ranks.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        table = torch.stack([torch.stack([self._sums[name], self._weights[name]]) for name in names])
        totals = all_reduce(table).tolist()
        return {name: total / weight for name, (total, weight) in zip(names, totals) if weight > 0}

    def reset(self) -> None:
        self._sums.clear()
        self._weights.clear()


class HeldOutErrors:
    """Standard errors of an evaluation's means, from the value of each row; the rows of one prompt are one cluster."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(
        self,
        groups: Sequence[EncodedGroup],
        values: Mapping[str, torch.Tensor],
        weights: torch.Tensor,
        own_weights: Mapping[str, torch.Tensor] = MappingProxyType({}),
    ) -> None:
        """Add one value per group.

        Args:
            groups: the rows, G of them.
            values: name → float [G]; NaN where a row has no such value.
            weights: float [G], as in the mean; a row of weight 0 does not count.
            own_weights: as for `Meter.add`.
        """
        columns = {
            name: list(zip(own_weights.get(name, weights).tolist(), value.detach().double().tolist()))
            for name, value in values.items()
        }
        for index, (group, weight) in enumerate(zip(groups, weights.tolist(), strict=True)):
            if weight > 0:
                self._rows.append((group.prompt_key, {name: column[index] for name, column in columns.items()}))

    def facts(self, gather: Callable[[list[Row]], list[Row]]) -> dict[str, float]:
        """`rows`, `prompts` (how many differ), and `se/NAME` for each metric that two prompts or more have.

        Args:
            gather: joins the rows of all ranks.
        """
        rows = gather(self._rows)
        names = dict.fromkeys(name for _, values in rows for name in values)
        found: dict[str, float] = {"rows": len(rows), "prompts": len({prompt for prompt, _ in rows})}
        for name in names:
            error = _standard_error([(prompt, *values[name]) for prompt, values in rows if name in values])
            if error is not None:
                found[f"se/{name}"] = error
        return found


def _standard_error(rows: Sequence[tuple[bytes, float, float]]) -> float | None:
    """Of the weighted mean m of (prompt, weight, value): √(G/(G−1) · Σ_g (Σ w·(x − m))²) / Σ w over G prompts."""
    rows = [row for row in rows if row[1] > 0 and math.isfinite(row[2])]
    names = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompt for prompt, _, _ in rows))}
    if len(names) < 2:
        return None
    weights, values = (np.array([row[column] for row in rows]) for column in (1, 2))
    total = weights.sum()
    residuals = weights * (values - (weights @ values) / total)
    sums = np.bincount([names[prompt] for prompt, _, _ in rows], weights=residuals)
    return float(math.sqrt(len(sums) / (len(sums) - 1) * (sums @ sums)) / total)


def of_all_ranks(rows: list[Row], ranks: int) -> list[Row]:
    """The rows of every process, those of rank 0 first."""
    if ranks == 1:
        return rows
    parts: list[list[Row]] = [[] for _ in range(ranks)]
    torch.distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part]
