"""A finished run on a tiny model, to be measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs import run


@pytest.fixture(scope="session")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps that held half of its 16 pairs out."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(model, folder, rows=16, val_size=0.5, max_steps=3, learning_rate=2e-2, sample_prompts=2, cutoff_len=200)
    return folder
