"""A scalar head next to the LM head: the value of each state, from the hidden state that predicts the next token.

The head is a module of the language model, so that one forward pass, optimiser and process group serve both. It is
saved in a separate file, so that transformers still loads the model folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from palate.errors import ModelError
from palate.models.upstream import base_of

VALUE_HEAD = "value_head.safetensors"


def add_value_head(model: Any) -> None:
    """Give a causal LM, possibly under PEFT, a trainable value head that starts at 0 everywhere.

    Raises:
        ModelError: the scoring forward of this architecture does not reach its hidden states.
    """
    base = base_of(model)
    if base.head.original:
        raise ModelError(f"{type(base).__name__}: no value head fits its forward pass; use stage: grpo")
    weight = base.get_output_embeddings().weight
    head = nn.Linear(base.config.get_text_config().hidden_size, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    base.value_head = head.to(device=weight.device, dtype=torch.float32).requires_grad_(True)


def values_of(model: nn.Module, hidden: Tensor) -> Tensor | None:
    """float32 [M] from hidden states [M, H], computed in float32; None for a model without a value head."""
    head = getattr(model, "value_head", None)
    if head is None:
        return None
    with torch.autocast(hidden.device.type, enabled=False):
        values: Tensor = head(hidden.float()).squeeze(-1)
    return values


def save_value_head(model: Any, folder: Path) -> None:
    """Write the head's file; nothing for a model without one."""
    head = getattr(base_of(model), "value_head", None)
    if head is not None:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()},
            folder / VALUE_HEAD,
        )


def load_value_head(model: Any, folder: Path) -> None:
    """Read the head's file; nothing for a model without one.

    Raises:
        ModelError: the file is missing.
    """
    head = getattr(base_of(model), "value_head", None)
    if head is None:
        return
    if not (folder / VALUE_HEAD).exists():
        raise ModelError(f"{folder}: {VALUE_HEAD} is missing, without which the run cannot continue")
    head.load_state_dict(load_file(folder / VALUE_HEAD))


@contextlib.contextmanager
def without_value_head(model: Any) -> Iterator[None]:
    """Inside, the model has no value head: it is saved like this."""
    base = base_of(model)
    head = base._modules.pop("value_head", None)
    try:
        yield
    finally:
        if head is not None:
            base.value_head = head
