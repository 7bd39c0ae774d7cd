"""The attention functions of packed rows, by the name under which transformers knows them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from palate.errors import ModelError
from palate.models.attention import varlen
from palate.models.attention.flex import FLEX, flex_tree_attention
from palate.models.attention.tree import TREE, tree_attention
from palate.models.attention.varlen import VARLEN, varlen_tree_attention
from palate.models.upstream import base_of

# Registered name → attention function of packed rows.
ATTENTION_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    TREE: tree_attention,
    VARLEN: varlen_tree_attention,
    FLEX: flex_tree_attention,
}
# The word for each in a config and in run.json.
ATTENTION_NAMES = {"tree": TREE, "varlen": VARLEN, "flex": FLEX}


def kernels_of(attention: str, device: torch.device) -> tuple[str, ...]:
    """Names in `ATTENTION_FUNCTIONS` to try for the config's word, in order of preference; none if `padded`."""
    if attention == "padded":
        return ()
    if attention in ATTENTION_NAMES:
        return (ATTENTION_NAMES[attention],)
    return (VARLEN, FLEX, TREE) if device.type == "cuda" else (TREE,)


def kernel_label(kernel: str) -> str:
    """The config's word for a member of `ATTENTION_FUNCTIONS`, with the kernel that runs it."""
    word = next(word for word, name in ATTENTION_NAMES.items() if name == kernel)
    if kernel != VARLEN:
        return word
    try:
        return f"{word} ({varlen.varlen_kernel()[0]})"
    except ModelError:
        return word


@contextlib.contextmanager
def original_attention(model: Any) -> Iterator[None]:
    """A context in which the model has its original attention, because tree attention needs a packed layout."""
    base = base_of(model)
    chosen = base.config._attn_implementation
    if chosen not in ATTENTION_FUNCTIONS:
        yield
        return
    try:
        base.set_attn_implementation(base.original_attention)
        yield
    finally:
        base.set_attn_implementation(chosen)
