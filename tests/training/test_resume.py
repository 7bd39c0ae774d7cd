"""What may change between a run and its resumption."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.errors import ArtifactError
from palate.training.resume import changed_settings
from runs import metrics, run

RUN = Path("runs/a")


def test_what_changed_is_said() -> None:
    began = {"num_train_epochs": 1.0, "logging_steps": 10, "output_dir": "a", "seed": 1}
    now = {"num_train_epochs": 2.0, "logging_steps": 5, "output_dir": "b", "seed": 1, "new_key": 3}
    assert changed_settings(RUN, began, now) == [
        "goes on with num_train_epochs: 2.0 (began with 1.0), logging_steps: 5 (began with 10)"
    ]
    assert changed_settings(RUN, began, began) == []


@pytest.mark.parametrize(
    ("key", "before", "after"), [("learning_rate", 5e-7, 1e-6), ("finetuning_type", "full", "lora")]
)
def test_what_a_checkpoint_holds_cannot_change(key: str, before: object, after: object) -> None:
    with pytest.raises(ArtifactError, match=f"runs/a: the run began with {key}: {before}, the config now says {after}"):
        changed_settings(RUN, {key: before}, {key: after})


def test_a_resumed_run_is_checked(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shape = {"save_strategy": "steps", "save_steps": 4}
    run(model, tmp_path / "run", **shape)
    with pytest.raises(ArtifactError, match="began with learning_rate"):
        run(model, tmp_path / "run", **shape, learning_rate=1e-4, resume_from_checkpoint=True)
    assert len(metrics(tmp_path / "run")) == 8
    run(model, tmp_path / "run", **shape, num_train_epochs=2, resume_from_checkpoint=True)
    assert "goes on with num_train_epochs: 2.0 (began with 1.0)" in capfd.readouterr().err
    assert len(metrics(tmp_path / "run")) == 16
