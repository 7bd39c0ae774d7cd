"""Models onto disk, so that transformers and PEFT load them as they are."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
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
    with quiet(), _as_for_inference(model.config), value_head_aside(model):
        model.save_pretrained(folder, state_dict=state_dict, **_embeddings(model))
    for path in folder.glob("*.safetensors"):
        follow_umask(path)


def _embeddings(model: Any) -> dict[str, bool]:
    """Whether an adapter is saved with the base's embedding: where new tokens enlarged it and it is not in it anyway."""
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
