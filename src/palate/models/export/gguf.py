"""A GGUF file, written by the converter of the user's llama.cpp checkout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from palate.artifacts import atomic_file
from palate.errors import ModelError

SCRIPT = "convert_hf_to_gguf.py"
_TYPES: Mapping[str, str] = MappingProxyType({"bf16": "bf16", "fp16": "f16", "fp32": "f32"})
_MAGIC = b"GGUF"


def check_converter(llama_cpp: Path) -> Path:
    """The converter of a llama.cpp checkout.

    Raises:
        ModelError: there is none.
    """
    script = llama_cpp / SCRIPT
    if not script.is_file():
        raise ModelError(f"{llama_cpp}: no llama.cpp checkout, it has no {SCRIPT}; name the folder that git cloned")
    return script


def export_gguf(folder: Path, llama_cpp: Path, output: Path, *, dtype: str) -> None:
    """Convert a merged model to a `.gguf` file; the converter is a program of its own, run with this Python.

    Raises:
        ModelError: the converter fails, with its last line, or writes no GGUF file.
    """
    script = check_converter(llama_cpp)
    with atomic_file(output) as scratch:
        command = [sys.executable, str(script), str(folder), "--outfile", str(scratch), "--outtype", _TYPES[dtype]]
        done = subprocess.run(  # noqa: S603 - the user names the checkout
            command, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            last = said[-1] if said else f"exit code {done.returncode}"
            hint = f"; pip install -r {llama_cpp / 'requirements.txt'}" if "ModuleNotFoundError" in last else ""
            raise ModelError(f"{script.name} failed: {last}{hint}")
        if not scratch.is_file() or _magic(scratch) != _MAGIC:
            raise ModelError(f"{script.name} wrote no GGUF file; update the llama.cpp checkout")


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_MAGIC))
