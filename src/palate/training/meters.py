"""Weighted means over examples, summed over micro-batches, steps and ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch


class Meter:
    """Accumulates Σ w·x and Σ w per metric on the device; reading it is the only synchronisation.

    A metric is a mean over examples, never over batches: a short last batch does not count double.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, torch.Tensor] = {}
        self._weights: dict[str, torch.Tensor] = {}

    def add(self, values: Mapping[str, torch.Tensor], weights: torch.Tensor) -> None:
        """Add one value per example.

        Args:
            values: name → float [G]; NaN where an example has no such value. The loss is a number for every example,
                so a NaN there stays one.
            weights: float [G]; an example of weight 0 does not count, whatever its value.
        """
        zero = torch.zeros((), device=self._device, dtype=torch.float64)
        for name, value in values.items():
            counted = weights > 0 if name == "loss" else (weights > 0) & ~value.isnan()
            terms = torch.where(counted, value.detach().double() * weights.double(), zero)
            self._sums[name] = self._sums.get(name, zero) + terms.sum()
            self._weights[name] = self._weights.get(name, zero) + torch.where(counted, weights.double(), zero).sum()

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
