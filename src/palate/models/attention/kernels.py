"""The attention functions of packed rows, by the name under which transformers knows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from palate.errors import ModelError
from palate.models.attention import varlen
from palate.models.attention.flex import FLEX, flex_tree_attention
from palate.models.attention.tree import TREE, tree_attention
from palate.models.attention.varlen import VARLEN, varlen_tree_attention

# Registered name → attention function of packed rows.
TREES: Mapping[str, Callable[..., Any]] = {
    TREE: tree_attention,
    VARLEN: varlen_tree_attention,
    FLEX: flex_tree_attention,
}
# The word for each in a config and in run.json.
NAMES = {"tree": TREE, "varlen": VARLEN, "flex": FLEX}


def kernels_of(attention: str, device: torch.device) -> tuple[str, ...]:
    """The members of `TREES` to try on a device, in order of preference.

    Args:
        attention: the config's word; `auto` and `padded` leave the choice to the device.
    """
    if attention in NAMES:
        return (NAMES[attention],)
    return (VARLEN, FLEX, TREE) if device.type == "cuda" else (TREE,)


def label(kernel: str) -> str:
    """The config's word for a member of `TREES`, with the kernel that runs it."""
    word = next(word for word, name in NAMES.items() if name == kernel)
    if kernel != VARLEN:
        return word
    try:
        return f"{word} ({varlen.varlen_kernel()[0]})"
    except ModelError:
        return word
