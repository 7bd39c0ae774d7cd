"""From a model's name to its folder or hub id."""

from __future__ import annotations

import shlex
from pathlib import Path

from palate.errors import MissingInputError, ModelError, did_you_mean
from palate.models.loading.builtin import SMOLLM2, smollm2
from palate.models.loading.convert import PICKLES, pickled_weights


def resolve_name(name: str) -> str:
    """The folder or hub id of a model's name.

    Raises:
        ModelError: a local folder without a model, or with pickled weights only.
    """
    if name == SMOLLM2:
        return str(smollm2())
    path = Path(name)
    if path.is_dir():
        _check_folder(path)
        return str(path)
    if path.is_file():
        hint = f"; a pickle is converted once, offline: {_conversion(path.parent)}" if path.suffix in PICKLES else ""
        raise ModelError(f"{name}: a model is a folder with config.json and *.safetensors, this is a file{hint}")
    known_parent = path.parent.is_dir() and path.parent != Path()
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or known_parent:  # not of the form owner/name
        raise MissingInputError(
            f"{name}: no such model folder{_nearest(path)}; a hub id looks like owner/name, the built-in is {SMOLLM2}"
        )
    return name


def _check_folder(path: Path) -> None:
    if not (path / "config.json").exists():
        adapter = "it holds an adapter: name its base as model_name_or_path and this folder as adapter_name_or_path"
        hint = adapter if (path / "adapter_config.json").exists() else "config.json is missing"
        raise ModelError(f"{path}: not a model folder, {hint}")
    if any(path.glob("*.safetensors")):
        return
    pickles = pickled_weights(path)
    if pickles:
        raise ModelError(
            f"{path}: {pickles[0].name} is a pickle, which can run code when loaded; convert it once, offline: "
            f"{_conversion(path)}"
        )
    raise ModelError(f"{path}: config.json is there, but no weights (*.safetensors)")


def _conversion(folder: Path) -> str:
    return shlex.join(["palate", "model", "convert", str(folder), "--output", f"{folder}-safetensors"])


def _nearest(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, [*siblings, SMOLLM2])
    return hint and f" ({hint})"
