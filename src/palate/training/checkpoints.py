"""Files of a checkpoint that transformers' Trainer does not write, and the removal of one that failed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palate.artifacts import read_json, write_errors, write_json
from palate.training.methods.base import Method

_METHOD_STATE = "method_state.json"


@contextlib.contextmanager
def unsealed(folder: Path, *, main: bool) -> Iterator[Path]:
    """A checkpoint folder to write into: the main process removes it before, and again if anything fails."""
    try:
        if main and folder.exists():
            shutil.rmtree(folder)
        with write_errors(folder):
            yield folder
    except BaseException:  # also an interrupt: what is left would be a checkpoint without a seal
        if main:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def write_method_state(folder: Path, method: Method[Any]) -> None:
    """Write what the method carries from step to step, if it carries anything."""
    state = method.state()
    if state:
        write_json(folder / _METHOD_STATE, state)


def restore_method_state(folder: Path, method: Method[Any]) -> None:
    """Give the method what `write_method_state` wrote."""
    if (folder / _METHOD_STATE).exists():
        method.restore(read_json(folder / _METHOD_STATE))
