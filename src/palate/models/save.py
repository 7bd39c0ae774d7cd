"""Models onto disk, so that transformers and PEFT load them as they are."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from transformers.utils import logging as hf_logging

from palate.models.value_head import value_head_aside


def save_pretrained(model: Any, folder: str | Path, *, state_dict: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a model, or the adapter of one under PEFT: safetensors and config.

    Args:
        model: unwrapped.
        folder: made where it is missing.
        state_dict: what to write instead of the model's own tensors (gathered ones, where they are sharded).
    """
    folder = Path(folder)
    with quiet(), _as_for_inference(model.config), value_head_aside(model), _in_one_dtype(model):
        tensors = None if state_dict is None else _cast(state_dict)
        model.save_pretrained(folder, state_dict=tensors, **_embeddings(model))
    for path in folder.glob("*.safetensors"):
        follow_umask(path)


def _embeddings(model: Any) -> dict[str, bool]:
    """Whether an adapter is saved with the embedding of its base: where new tokens enlarged it and it is frozen."""
    if not isinstance(model, PeftModel) or not getattr(model, "enlarged_vocabulary", False):
        return {}
    layers = [one for one in (model.get_input_embeddings(), model.get_output_embeddings()) if one is not None]
    return {"save_embedding_layers": not all(isinstance(one, ModulesToSaveWrapper) for one in layers)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The library's own reports and progress bars go to nobody; what matters is raised."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # What one library has deprecated and another still calls is not the user's to mend.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@contextlib.contextmanager
def _in_one_dtype(model: Any) -> Iterator[None]:
    """Save all weights in the widest dtype among them, which config.json then names.

    Frozen ones may be kept in bf16 beside trained ones in float32; to widen them loses nothing. An adapter is saved
    without its base and has one dtype already.
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


def _cast(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gathered tensors in the widest dtype among them."""
    dtype = _widest(tensor for tensor in state.values() if tensor.dtype in _FLOATS)
    return {name: tensor.to(dtype) if tensor.dtype in _FLOATS else tensor for name, tensor in state.items()}


def _widest(tensors: Iterable[torch.Tensor]) -> torch.dtype:
    found = {tensor.dtype for tensor in tensors} or {torch.float32}
    return functools.reduce(torch.promote_types, found)


@contextlib.contextmanager
def _as_for_inference(config: Any) -> Iterator[None]:
    """Save with the cache switched on, as the model came; Trainer switches it off to train."""
    before = config.use_cache if hasattr(config, "use_cache") else None
    if before is not None:
        config.use_cache = True
    try:
        yield
    finally:
        if before is not None:
            config.use_cache = before


def follow_umask(path: Path) -> None:
    """safetensors makes its files readable by their owner alone; give them the mode of any other new file."""
    umask = os.umask(0o077)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
