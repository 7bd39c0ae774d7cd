"""What a model *is*: a hash of its weights, not of its path or name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import nn


def weights_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """16 hexadecimal digits over names, dtypes, shapes and bytes, independent of the mapping's order.

    Tied tensors are hashed under each of their names, so tying alone does not change which weights a name stands for.
    """
    digest = hashlib.sha256()
    seen: dict[tuple[int, torch.Size], bytes] = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        where = (tensor.data_ptr(), tensor.shape)
        if where not in seen or tensor.data_ptr() == 0:
            plain = tensor.to("cpu").contiguous().view(-1).view(torch.uint8).numpy()
            seen[where] = hashlib.sha256(plain.data).digest()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(seen[where])
    return digest.hexdigest()[:16]


def model_hash(model: nn.Module) -> str:
    """`weights_hash` of all parameters and persistent buffers."""
    return weights_hash(model.state_dict())
