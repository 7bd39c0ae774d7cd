"""The variable-length kernel written out stands in the benchmarks, which compare it on a GPU too."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from conftest import REPOSITORY


@pytest.fixture(scope="session")
def benchmarks() -> Any:
    folder = str(REPOSITORY / "benchmarks")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("_attention")
