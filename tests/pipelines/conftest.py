"""A model folder for pipelines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny import save_tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a tokenizer and weights large enough that answers differ."""
    return save_tiny(tmp_path_factory.mktemp("model") / "llama", initializer_range=0.2)
