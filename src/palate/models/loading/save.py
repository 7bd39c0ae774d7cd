"""Model files: written for transformers and PEFT to load, and read back into the model that trains."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from safetensors import safe_open

from palate.errors import ArtifactError
from palate.models.scoring.value_head import without_value_head
from palate.models.upstream import quiet

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def save_pretrained(model: Any, folder: str | Path, *, state_dict: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a model, or under PEFT its adapter: safetensors and config.

    Args:
        state_dict: written instead of the model's own tensors (gathered ones, if they are sharded).
    """
    folder = Path(folder)
    with quiet(), _as_for_inference(model.config), without_value_head(model), _in_one_dtype(model):
        given = None if state_dict is None else _cast(_untied(model, state_dict))
        model.save_pretrained(folder, state_dict=given, **_embeddings(model))
    for path in folder.glob("*.safetensors"):
        follow_umask(path)


def _embeddings(model: Any) -> dict[str, bool]:
    """Whether an adapter is saved with its base's embedding: if new tokens enlarged it and it is frozen."""
    if not isinstance(model, PeftModel) or not getattr(model, "enlarged_vocabulary", False):
        return {}
    layers = [one for one in (model.get_input_embeddings(), model.get_output_embeddings()) if one is not None]
    return {"save_embedding_layers": not all(isinstance(one, ModulesToSaveWrapper) for one in layers)}


@contextlib.contextmanager
def _in_one_dtype(model: Any) -> Iterator[None]:
    """Save all weights in the widest dtype among them, which config.json then names.

    Frozen weights may be bf16 beside trained ones in float32; widening loses nothing. An adapter is saved without its
    base and has one dtype already.
    """
    parameters = [] if hasattr(model, "get_base_model") else [p for p in model.parameters() if p.dtype in _FLOATS]
    dtype = _widest(parameters)
    narrow = [(p, p.data) for p in parameters if p.dtype != dtype]
    try:
        for parameter, data in narrow:
            parameter.data = data.to(dtype)
        yield
    finally:
        for parameter, data in narrow:
            parameter.data = data


def _untied(model: Any, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gathered tensors without the second name of a tied one, which transformers finds by its storage otherwise."""
    tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
    return {
        name: tensor
        for name, tensor in state.items()
        if name not in tied or tied[name] not in state or not torch.equal(tensor, state[tied[name]])
    }


def _cast(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gathered tensors in the widest dtype among them."""
    dtype = _widest(tensor for tensor in state.values() if tensor.dtype in _FLOATS)
    return {name: tensor.to(dtype) if tensor.dtype in _FLOATS else tensor for name, tensor in state.items()}


def _widest(tensors: Iterable[torch.Tensor]) -> torch.dtype:
    found = {tensor.dtype for tensor in tensors} or {torch.float32}
    return functools.reduce(torch.promote_types, found)


@contextlib.contextmanager
def _as_for_inference(config: Any) -> Iterator[None]:
    """Save with the cache switched on, as the model was loaded; Trainer switches it off."""
    before = getattr(config, "use_cache", None)
    if before is not None:
        config.use_cache = True
    try:
        yield
    finally:
        if before is not None:
            config.use_cache = before


def follow_umask(path: Path) -> None:
    """Give a file the mode of any other new file; safetensors makes its files readable by their owner only."""
    umask = os.umask(0o077)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def has_renamed_weights(model: Any, folder: Path) -> bool:
    """Whether the folder has a whole model in which some tensors have other names than in memory.

    transformers stores some weights under other names and shapes than its models have (the experts of most mixtures: a
    tensor for each in the file, one for all in memory). Its Trainer loads checkpoints by name and ignores what it does
    not find, so a resumed run would continue with the initial experts.
    """
    stored: set[str] = set()
    for path in folder.glob("model*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored.update(file.keys())
    if not stored:  # an adapter, or shards of another kind
        return False
    return bool(_own_names(model) - stored)


def load_renamed(model: Any, folder: Path) -> None:
    """Copy the folder's weights into the model through a second one, loaded by transformers.

    Raises:
        ArtifactError: the folder lacks some of the model's weights.
    """
    with quiet():
        read, report = type(model).from_pretrained(folder, dtype="auto", output_loading_info=True)
    lacking = sorted(set(report["missing_keys"]) & _own_names(model))
    if lacking:
        raise ArtifactError(f"{folder}: the checkpoint lacks weights of the model: {', '.join(lacking[:3])}")
    with without_value_head(model):
        model.load_state_dict(read.state_dict())


def _own_names(model: Any) -> set[str]:
    """Names of the tensors in a whole model's files."""
    with without_value_head(model):
        return set(model.state_dict()) - set(getattr(model, "all_tied_weights_keys", None) or ())
