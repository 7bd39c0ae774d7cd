"""Frozen bottom layers (the trunk) are computed once, for policy and reference and for all epochs.

If only the last layers train, the output of the layers below never changes. The hidden state that enters the first
trained layer is stored per group and replayed: the frozen layers return their input, the last one returns the stored
state, and the model's own forward runs around them, so no architecture's forward is copied here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from palate.models.tuning.trainable import decoder_layers
from palate.text.batch import Batch
from palate.text.group_file import lengths_of
from palate.text.groups import EncodedGroup


def first_trainable_layer(model: Any) -> int:
    """Number of frozen bottom layers; 0 if the embedding below them trains."""
    if any(p.requires_grad for p in model.get_input_embeddings().parameters()):
        return 0
    for index, layer in enumerate(decoder_layers(model)):
        if any(p.requires_grad for p in layer.parameters()):
            return index
    return 0


class TrunkCache:
    """Hidden states of groups after the frozen layers; groups beyond the limit of bytes are computed each time."""

    def __init__(self, model: Any, limit_bytes: int) -> None:
        self.layers = list(decoder_layers(model))[: first_trainable_layer(model)]
        self._limit = limit_bytes
        self._width = model.config.get_text_config().hidden_size
        self._states: dict[bytes, Tensor] = {}
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self.layers)

    def estimate(self, groups: Sequence[EncodedGroup]) -> int:
        """Bytes that the cache will need for these groups: float32 hidden states, within the limit."""
        return int(min(self._limit, int(lengths_of(groups).packed.sum(dtype=np.int64)) * self._width * 4))

    def run(self, batch: Batch) -> TrunkRun:
        """A `TrunkRun` for one forward pass over this packed batch: replays stored states, or records them."""
        if batch.layout is None:
            return TrunkRun((), None)
        keys = [group.content_hash for group in batch.groups]
        if all(key in self._states for key in keys):
            states = [self._states[key] for key in keys]
            return TrunkRun(self.layers, torch.cat(states)[None].to(batch.input_ids.device))
        return TrunkRun(self.layers, None)

    def keep(self, batch: Batch, run: TrunkRun) -> None:
        """Store the states of a recording run, up to the limit."""
        if run.recorded is None or batch.layout is None:
            return
        for group, span in zip(batch.groups, batch.layout.spans, strict=True):
            key = group.content_hash
            size = (span.end - span.start) * run.recorded.shape[-1] * run.recorded.element_size()
            if key not in self._states and self.bytes + size <= self._limit:
                self._states[key] = run.recorded[0, span.start : span.end].to("cpu", copy=True)
                self.bytes += size


class TrunkRun:
    """One forward pass over the trunk: replays a stored state [1, T, H], or records the computed one.

    Attributes:
        recorded: [1, T, H] after a recording forward.
    """

    def __init__(self, layers: Sequence[nn.Module], state: Tensor | None) -> None:
        self._layers = layers
        self._state = state
        self.recorded: Tensor | None = None

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """A context in which the frozen layers replay or record."""
        if not self._layers:
            yield
            return
        changed = self._layers if self._state is not None else self._layers[-1:]
        for layer in changed[:-1]:
            layer.forward = lambda hidden, *_, **__: hidden
        last: Any = changed[-1]
        last.forward = self._replayed if self._state is not None else self._recording(last.forward)
        try:
            yield
        finally:
            for layer in changed:
                del layer.__dict__["forward"]

    def _replayed(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        assert self._state is not None
        return self._state.to(hidden.dtype)

    def _recording(self, forward: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            # Layers that return more than the hidden state are never recorded, so they always run.
            if isinstance(output, Tensor):
                self.recorded = output.detach()
            return output

        return run
