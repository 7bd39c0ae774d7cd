"""The check before a weight update: losses and the gradient are finite."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from palate.errors import NonFiniteError
from palate.text.encode import EncodedGroup


def check_finite(
    step: int,
    losses: torch.Tensor,
    norm: float | None,
    groups: Sequence[EncodedGroup],
    *,
    scaled: bool,
    has_beta: bool,
    updated: bool = False,
) -> None:
    """Refuse an update that would make weights non-finite.

    Args:
        step: number of the step, from 1.
        losses: of the step's groups, [groups].
        norm: of the gradient; None while it is not known.
        groups: of this rank.
        scaled: whether a gradient scaler (fp16) is used, which skips steps with infinite gradients itself.
        has_beta: whether the loss has a reference, and so a `pref_beta` to change.
        updated: whether the weights have changed already.

    Raises:
        NonFiniteError: names the rows, or the gradient norm, and what to try.
    """
    finite = torch.isfinite(losses).tolist()
    if all(finite) and (scaled or norm is None or math.isfinite(norm)):
        return
    kept = ("" if updated else "the weights were not touched and ") + "the last checkpoint is from before this step"
    remedy = f"try learning_rate: 1e-7, {'pref_beta: 0.2, ' if has_beta else ''}max_grad_norm: 0.5, or precision: fp32"
    rows = [group.id for group, ok in zip(groups, finite) if not ok]
    if rows:
        raise NonFiniteError(f"step {step}: the loss is not finite for {', '.join(rows[:5])}; {kept}; {remedy}")
    seen = ", ".join(group.id for group in groups[:5])
    raise NonFiniteError(f"step {step}: the gradient norm is {norm} (rows {seen}); {kept}; {remedy}")
