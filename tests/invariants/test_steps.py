"""Invariance 2: an optimiser step is defined by the config; how it is split into passes changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runs import distance, metrics, run, weights


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs over 20 pairs in steps of 8, the last of each epoch shorter; each step in one pass."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(model, folder, rows=20, num_train_epochs=3, per_device_train_batch_size=8, max_tokens_per_batch=100_000)
    return folder


@pytest.mark.parametrize(
    "split",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 8, "max_tokens_per_batch": 60},
        {"per_device_train_batch_size": 8, "max_tokens_per_batch": 1},
        {"per_device_train_batch_size": 8, "attention": "padded", "max_tokens_per_batch": 150},
        {"per_device_train_batch_size": 8, "gradient_checkpointing": True},
    ],
    ids=lambda split: " ".join(f"{key.removeprefix('per_device_train_')}={value}" for key, value in split.items()),
)
def test_how_a_step_is_split_changes_nothing(model: Path, whole: Path, tmp_path: Path, split: dict[str, Any]) -> None:
    run(model, tmp_path / "run", rows=20, num_train_epochs=3, **split)
    expected, got = metrics(whole), metrics(tmp_path / "run")
    assert len(expected) == len(got) == 9
    for one, other in zip(expected, got, strict=True):
        for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "grad_norm"):
            assert other[name] == pytest.approx(one[name], rel=2e-3, abs=2e-4), (one["step"], name)
    moved = distance(model, whole)
    assert moved > 0.02
    assert distance(whole, tmp_path / "run") < moved / 100
    assert weights(whole)["model.norm.weight"].isfinite().all()
