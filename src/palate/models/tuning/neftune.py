"""NEFTune (2310.05914): uniform noise on the token embeddings during training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from palate.text.batch import Batch


class EmbeddingNoise:
    """Adds noise from U(−1, 1) · α / √(L · d) to each embedding of d numbers, inside `on`.

    L is the length of the sequence, prompt and completion, not of the packed row. In a group it is that of the longest
    completion, so that chosen and rejected get noise of the same size and their shared prompt gets it once.

    The noise comes from torch's generator, as dropout does: a step that is scored twice (`training.coupled`) and a
    resumed run get the same numbers.

    The model has its trained parameters chosen; the embedding may be wrapped by PEFT.
    """

    def __init__(self, model: Any, alpha: float) -> None:
        self._alpha = alpha
        self._lengths: Tensor | None = None
        model.get_input_embeddings().register_forward_hook(self._add)

    @contextlib.contextmanager
    def on(self, batch: Batch) -> Iterator[None]:
        """Inside, forward passes of this batch get noise."""
        self._lengths = sequence_lengths(batch)
        try:
            yield
        finally:
            self._lengths = None

    def _add(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Forward hook of the embedding: output [rows, T, d]."""
        del module, inputs
        if self._lengths is None:
            return output
        size = self._alpha / (self._lengths * output.shape[-1]).sqrt()
        noise = torch.empty_like(output).uniform_(-1.0, 1.0)
        return output + noise * size[..., None].to(output.dtype)


def sequence_lengths(batch: Batch) -> Tensor:
    """L of each token's group: float32 [1, T] of a packed batch, [C, 1] of a padded one."""
    device = batch.input_ids.device
    lengths = torch.tensor([float(group.longest_row) for group in batch.groups], device=device)
    if batch.layout is None:
        return lengths[batch.group_of][:, None]
    sizes = torch.tensor([span.end - span.start for span in batch.layout.spans], device=device)
    return lengths.repeat_interleave(sizes)[None]
