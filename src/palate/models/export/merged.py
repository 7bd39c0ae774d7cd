"""A whole model with its adapters merged, in one dtype, or a LoRA adapter alone, as engines and libraries load them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import AutoConfig

from palate.artifacts import atomic_folder, read_json, write_json, write_text
from palate.errors import ModelError
from palate.models.loading.load import load_model
from palate.models.loading.resolve import resolve_name
from palate.models.loading.save import save_pretrained
from palate.models.loading.spec import ModelSpec
from palate.models.tuning.trainable import TASKS, merge_adapter
from palate.models.tuning.vocabulary import enlarge_embedding

_COPIED = ("adapter_model.safetensors", "README.md")

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
)


def stored_dtype(spec: ModelSpec) -> str:
    """The name of the dtype in which the model's weights, without its adapters, are stored; fp32 if it is not said.

    Raises:
        ModelError: the weights are quantised, so that nothing can be merged into them.
    """
    config = AutoConfig.from_pretrained(resolve_name(spec.model), **spec.origin)
    if getattr(config, "quantization_config", None):
        raise ModelError(
            f"{spec.model}: its weights are stored quantised, and an export needs them in full; name the model that "
            "they were quantised from"
        )
    return next((name for name, dtype in DTYPES.items() if config.dtype is dtype), "fp32")


def export_merged(spec: ModelSpec, folder: Path, *, dtype: str, head: str = "lm") -> None:
    """Write a model with its adapters merged: weights, config, generation config, tokenizer and chat template.

    The weights are merged in float32 and rounded once, so the whole model is in memory in float32.

    Args:
        folder: created when all files are complete.
        dtype: a key of DTYPES.

    Raises:
        ModelError: the model cannot be loaded, or a weight is beyond the range of fp16.
    """
    tokenizer = spec.tokenizer()
    spec.chat_template(tokenizer)  # writes a named template into the tokenizer
    model: Any = load_model(spec.model, device=torch.device("cpu"), head=head, **spec.origin)
    enlarge_embedding(model, len(tokenizer) if spec.adapters or spec.tokens_of else 0)
    for adapter in spec.adapters:
        model = merge_adapter(model, adapter, task=TASKS[head])
    _cast(model, dtype, spec.name)
    card = Path(spec.adapters[-1] if spec.adapters else spec.model) / "README.md"
    with atomic_folder(folder) as scratch:
        save_pretrained(model, scratch)
        tokenizer.save_pretrained(scratch)
        if card.is_file():
            text = card.read_text(encoding="utf-8").replace("library_name: peft", "library_name: transformers", 1)
            write_text(scratch / "README.md", text)


def _cast(model: Any, dtype: str, name: str) -> None:
    limit = torch.finfo(DTYPES[dtype]).max
    for key, parameter in model.named_parameters():
        if dtype == "fp16" and float(parameter.abs().max()) > limit:
            raise ModelError(f"{name}: {key} is beyond the range of fp16 (±{limit:g}); export it in bf16 or fp32")
    model.to(DTYPES[dtype])


def export_adapter(spec: ModelSpec, folder: Path) -> None:
    """Write the model's adapter; its base is an absolute path, or a hub id.

    Raises:
        ModelError: the model has no adapter, or needs several.
    """
    if not spec.adapters:
        raise ModelError(f"{spec.name}: is a whole model, not an adapter; export it with --merged")
    if len(spec.adapters) > 1:
        raise ModelError(
            f"{spec.name}: its adapter belongs on a base into which {', '.join(spec.adapters[:-1])} was merged first; "
            "export it with --merged"
        )
    source, base = Path(spec.adapters[0]), resolve_name(spec.model)
    tokenizer = spec.tokenizer()
    spec.chat_template(tokenizer)  # writes a named template into the tokenizer
    config = read_json(source / "adapter_config.json")
    config["base_model_name_or_path"] = str(Path(base).resolve()) if Path(base).is_dir() else base
    config["revision"] = spec.revision
    with atomic_folder(folder) as scratch:
        for name in _COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, scratch / name)
        write_json(scratch / "adapter_config.json", config)
        tokenizer.save_pretrained(scratch)
