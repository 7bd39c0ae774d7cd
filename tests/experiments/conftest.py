"""The experiments are scripts in a folder of their own: tests import them from there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "experiments"))


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the review experiments of the session are made; they share one tiny world."""
    return tmp_path_factory.mktemp("played")
