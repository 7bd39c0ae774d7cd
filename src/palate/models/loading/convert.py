"""Converts pickled weights to safetensors without running code from the pickle.

A pickle is a program; torch's `weights_only` reader accepts only tensors and plain containers.
"""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from palate.artifacts import atomic_folder, read_json, write_json
from palate.errors import ModelError
from palate.models.loading.save import follow_umask

PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")
# Pickles in a model folder that are not its weights.
_OTHERS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
# Keys under which training scripts store the weights.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "state")


@dataclass(frozen=True, slots=True)
class Converted:
    """Result of a conversion.

    Attributes:
        folder: the new model folder.
        files: names of its weight files.
        tensors: number of tensors.
        size: bytes of all tensors.
    """

    folder: Path
    files: tuple[str, ...]
    tensors: int
    size: int


def pickled_weights(folder: Path) -> list[Path]:
    """The pickle files of a model folder that may be its weights."""
    found = (path for path in sorted(folder.iterdir()) if path.suffix in PICKLES and path.is_file())
    return [path for path in found if not path.name.startswith(_OTHERS)]


def convert(folder: Path, out: Path) -> Converted:
    """Copy a model or adapter folder with pickled weights, whole or sharded, as safetensors.

    One shard is in memory at a time. `out` exists once it is complete.

    Raises:
        ModelError: there is nothing to convert, a pickle has more than tensors, or `out` exists.
    """
    _check(folder, out)
    index = next(iter(sorted(folder.glob("*.bin.index.json"))), None)
    shards = _shards(folder, index) if index else [_only(folder)]
    prefix = "adapter_model" if (folder / "adapter_config.json").exists() else "model"
    tied = _ties_head(folder)
    files: list[str] = []
    weight_map: dict[str, str] = {}
    size = 0
    with atomic_folder(out) as scratch:
        for number, shard in enumerate(shards, 1):
            name = f"{prefix}.safetensors" if index is None else f"{prefix}-{number:05}-of-{len(shards):05}.safetensors"
            tensors = _separate(_load(shard), tied=tied)
            save_file(tensors, scratch / name, metadata={"format": "pt"})
            follow_umask(scratch / name)
            files.append(name)
            weight_map |= dict.fromkeys(tensors, name)
            size += sum(tensor.nbytes for tensor in tensors.values())
        if index is not None:
            facts = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
            write_json(scratch / f"{prefix}.safetensors.index.json", facts)
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.suffix not in PICKLES and path != index and not path.name.startswith("."):
                shutil.copyfile(path, scratch / path.name)
    return Converted(out, tuple(files), len(weight_map), size)


def _check(folder: Path, out: Path) -> None:
    if not folder.is_dir():
        what = "is a file; name the folder that holds it and its config.json" if folder.exists() else "no such folder"
        raise ModelError(f"{folder}: {what}")
    if not (folder / "config.json").exists() and not (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder}: not a model folder, config.json is missing; put the model's own beside its weights"
        )
    if any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: has safetensors weights already; nothing to convert")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out}: exists already and is not empty; choose another folder")


def _only(folder: Path) -> Path:
    found = pickled_weights(folder)
    if not found:
        raise ModelError(f"{folder}: no pickled weights (*{', *'.join(PICKLES)}) to convert")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ModelError(f"{folder}: several pickles ({names}) and no index says how they belong together; keep one")
    return found[0]


def _shards(folder: Path, index: Path) -> list[Path]:
    value = read_json(index)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{index}: has no weight_map; the index is damaged")
    shards = [folder / str(name) for name in sorted(set(names.values()))]
    for shard in shards:
        if shard.parent != folder or not shard.is_file():
            raise ModelError(f"{index}: names {shard.name}, which is not in {folder}")
    return shards


def _load(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickle by name, memory-mapped if its format allows."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; unreadable files are refused below
            value = _unpickle(path)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors and could run code when loaded ({_reason(error)}); refused: "
            "save its state_dict alone, where you trust it"
        ) from error
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: damaged, or no checkpoint of torch: {_reason(error)}") from error
    while isinstance(value, Mapping) and not _is_state(value):
        inner = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping)), None)
        if inner is None:
            raise ModelError(
                f"{path}: no tensors by name in it (found {', '.join(map(str, list(value)[:5])) or 'nothing'})"
            )
        value = inner
    if not isinstance(value, Mapping):
        raise ModelError(f"{path}: no tensors by name in it (found a {type(value).__name__})")
    return {str(name): tensor for name, tensor in value.items()}


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        # Files of torch before 1.6 cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_state(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(one, torch.Tensor) for one in value.values())


def _separate(tensors: dict[str, torch.Tensor], *, tied: bool) -> dict[str, torch.Tensor]:
    """Tensors without shared memory, which safetensors cannot store.

    A head that the config ties to the embedding is omitted: loading ties it again. Other shared tensors are copied.
    """
    seen: set[int] = set()
    separate: dict[str, torch.Tensor] = {}
    for name, tensor in sorted(tensors.items(), key=lambda item: item[0].endswith("lm_head.weight")):
        storage = tensor.untyped_storage().data_ptr()
        if storage in seen and tied and name.endswith("lm_head.weight"):
            continue
        whole = tensor.is_contiguous() and tensor.nbytes == tensor.untyped_storage().nbytes()
        separate[name] = (
            tensor if whole and storage not in seen else tensor.clone(memory_format=torch.contiguous_format)
        )
        seen.add(storage)
    return separate


def _ties_head(folder: Path) -> bool:
    """Whether the config ties the LM head to the embedding; False if it does not say, which is safe."""
    if not (folder / "config.json").exists():
        return False
    value = read_json(folder / "config.json")
    text = value.get("text_config") or {}
    return bool(value.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))


def _reason(error: BaseException) -> str:
    """The line of torch's message with the name that was not allowed, or its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (named or lines or [type(error).__name__])[0].split(". ")[0].removeprefix("WeightsUnpickler error: ")
