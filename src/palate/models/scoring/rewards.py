"""The scoring forward of a reward model: a scalar head, read at the last trained token of each completion.

It is transformers' own sequence-classification model of the architecture, so a saved one works there as it is. Here its
forward also scores packed rows, with tree attention.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from palate.errors import ModelError
from palate.models.scoring.forward import decoder_inputs, replace_forward, states_at
from palate.models.scoring.trunk import TrunkRun
from palate.text.batch import Batch


class Rewards(NamedTuple):
    """Rewards of completions, float32 [C], in the order of `Batch.group_of`; router logits as in `TokenLogps`."""

    rewards: Tensor
    router_logits: tuple[Tensor, ...] | None = None


def end_index(batch: Batch) -> Tensor:
    """The index of each completion's last trained token in the flattened input_ids, int64 [C]."""
    ends: list[int] = []
    if batch.layout is not None:
        for group, span in zip(batch.groups, batch.layout.spans, strict=True):
            start = span.start + span.prompt
            for completion in group.completions:
                ends.append(start + int(np.flatnonzero(completion.trained)[-1]))
                start += len(completion.ids)
    else:
        width = batch.input_ids.shape[1]
        rows = ((group, completion) for group in batch.groups for completion in group.completions)
        for row, (group, completion) in enumerate(rows):
            last = len(group.prompt_ids) + int(np.flatnonzero(completion.trained)[-1])
            ends.append(row * width + last)
    return torch.tensor(ends, device=batch.input_ids.device)


def install_rewards(model: Any) -> None:
    """Give a sequence-classification model the scoring forward. Calls without `end_index` reach the original forward.

    Raises:
        ModelError: the model has no linear score head on the last token.
    """
    if not isinstance(getattr(model, "score", None), nn.Linear):
        raise ModelError(f"{type(model).__name__} has no linear score head on the last token; take a causal model")
    replace_forward(model, _reward_forward)


def _reward_forward(
    self: Any,
    input_ids: Tensor | None = None,
    *,
    target_index: Tensor | None = None,
    target_ids: Tensor | None = None,
    end_index: Tensor | None = None,
    trunk: TrunkRun | None = None,
    return_dict: bool | None = None,
    routers: bool = False,
    **kwargs: Any,
) -> Any:
    """Rewards at `end_index`, or the original forward without it."""
    del target_index, target_ids, return_dict  # arguments of a language model's forward, and of PEFT's
    if end_index is None:
        return self.original_forward(input_ids=input_ids, **kwargs)
    inputs = {"input_ids": input_ids, **{name: value for name, value in kwargs.items() if value is not None}}
    with trunk.installed() if trunk is not None else contextlib.nullcontext():
        hidden, routed = states_at(self, self.base_model, inputs, end_index, routers=routers)
    # In float32: the head is cheap, and in bf16 the rewards of similar answers would be equal.
    with torch.autocast(hidden.device.type, enabled=False):
        return Rewards(self.score(hidden.float()).squeeze(-1), routed)


def states_at_ends(model: Any, batch: Batch) -> Tensor:
    """Hidden states float32 [C, H] that rewards are read from."""
    return states_at(model, model.base_model, decoder_inputs(batch), end_index(batch))[0].float()
