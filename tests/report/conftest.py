"""The fixture of runs for the tests of the reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from run_files import write_run


@pytest.fixture
def make_run() -> Callable[..., Path]:
    """`make_run(path, steps=80, evaluate_every=20)` writes a run; keyword `run` changes fields of run.json."""
    return write_run
