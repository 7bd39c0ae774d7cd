"""Masks of layers that are not purely causal, at the logical positions of a packed row's sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers.masking_utils import causal_mask_function

from palate.errors import ModelError

# Rows of a mask that are compared with a sliding window.
_ROWS = 16

MaskFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class TreeMask:
    """An architecture's own mask rule (a sliding window, chunks …), evaluated at logical positions.

    The mask interface does not see the layout but the attention function does, so the rule is passed between them. One
    TreeMask is made per forward and shared by all layers of a kind; it caches the blocks that it evaluated.
    """

    def __init__(self, rule: MaskFunction) -> None:
        self.rule = rule
        self._blocks: dict[tuple[int, int], torch.Tensor | None] = {}
        self._windows: dict[int, int] = {}

    def block(self, queries: int, keys: int, device: torch.device) -> torch.Tensor | None:
        """Keys visible to the last `queries` of `keys` logical positions: bool [queries, keys]; None if causal."""
        known = (queries, keys)
        if known not in self._blocks:
            q = torch.arange(keys - queries, keys, device=device)[:, None]
            k = torch.arange(keys, device=device)[None, :]
            zero = torch.zeros((), dtype=torch.long, device=device)
            causal = k <= q
            allowed = self.rule(zero, zero, q, k) & causal
            # On a GPU the comparison would wait for the device.
            hides = device.type != "cpu" or not torch.equal(allowed, causal)
            self._blocks[known] = allowed if hides else None
        return self._blocks[known]

    def window(self, keys: int) -> int | None:
        """The sliding window that the rule is, in keys that a query sees of up to `keys` positions; None if all.

        The rule is evaluated on the CPU, because reading the result from a GPU would wait for it.

        Raises:
            ModelError: the rule is no sliding window.
        """
        if keys not in self._windows:
            self._windows[keys] = _window_of(self.rule, keys)
        width = self._windows[keys]
        return width if width < keys else None


def _window_of(rule: MaskFunction, keys: int) -> int:
    """The width of the sliding window that equals the rule; raises ModelError if there is none.

    Compared are some rows: evenly spaced ones, and those at which the window leaves the first key, by which a rule of
    fixed chunks differs from a window.
    """
    zero = torch.zeros((), dtype=torch.long)
    k = torch.arange(keys)[None, :]

    def rows(at: torch.Tensor) -> torch.Tensor:
        return rule(zero, zero, at[:, None], k) & (k <= at[:, None])

    width = int(rows(torch.tensor([keys - 1])).sum())
    q = torch.cat([torch.linspace(0, keys - 1, _ROWS).long(), torch.tensor([max(width - 1, 0), min(width, keys - 1)])])
    if width == 0 or not torch.equal(rows(q), (k <= q[:, None]) & (k > q[:, None] - width)):
        raise ModelError("a layer's attention mask is no sliding window, so it needs attention: tree or flex")
    return width


def tree_mask(*, mask_function: MaskFunction, **_: Any) -> TreeMask | None:
    """The registered mask function: None for a purely causal layer, else the layer's rule."""
    return None if mask_function is causal_mask_function else TreeMask(mask_function)
