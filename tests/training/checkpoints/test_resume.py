"""What may change between a run and its resumption."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.errors import ArtifactError
from palate.training.checkpoints.resume import changed_settings
from runs import distance, metrics, run
from tiny import save_tiny

RUN = Path("runs/a")


def test_what_changed_is_said() -> None:
    began = {"num_train_epochs": 1.0, "logging_steps": 10, "output_dir": "a", "seed": 1}
    now = {"num_train_epochs": 2.0, "logging_steps": 5, "output_dir": "b", "seed": 1, "new_key": 3}
    assert changed_settings(RUN, began, now) == [
        "goes on with num_train_epochs: 2.0 (began with 1.0), logging_steps: 5 (began with 10)"
    ]
    assert changed_settings(RUN, began, began) == []


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("learning_rate", 5e-7, 1e-6),
        ("finetuning_type", "full", "lora"),
        ("lora_alpha", 16, 32),
        ("metric_for_best_model", "loss", "rewards/margins"),
    ],
)
def test_what_a_checkpoint_holds_cannot_change(key: str, before: object, after: object) -> None:
    with pytest.raises(ArtifactError, match=f"runs/a: the run began with {key}: {before}, the config now says {after}"):
        changed_settings(RUN, {key: before}, {key: after})


def test_a_step_of_other_rows_is_said() -> None:
    began = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    same = changed_settings(RUN, began, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4})
    assert len(same) == 1
    _, warning = changed_settings(RUN, began, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2})
    assert warning.startswith("warning: a step has 4 rows of each process now and had 8")


def test_another_base_under_the_adapter_is_refused(model: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=1, initializer_range=0.2)
    shape = {"stage": "sft", "finetuning_type": "lora", "save_strategy": "steps", "save_steps": 4}
    run(model, tmp_path / "run", **shape)
    with pytest.raises(ArtifactError, match="the adapter was begun on the weights"):
        run(other, tmp_path / "run", **shape, num_train_epochs=2, resume_from_checkpoint=True)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_that_goes_on_beyond_its_end_loses_no_step(model: Path, tmp_path: Path, schedule: str) -> None:
    """The old schedule ended at a rate of 0; the first step after it has the rate that the new one gives there."""
    shape = {"per_device_train_batch_size": 2, "lr_scheduler_type": schedule, "save_strategy": "epoch"}
    run(model, tmp_path / "run", **shape)
    run(model, tmp_path / "run", **shape, num_train_epochs=2, resume_from_checkpoint=True)
    run(model, tmp_path / "whole", **shape, num_train_epochs=2)
    rates = [row["learning_rate"] for row in metrics(tmp_path / "run")]
    expected = [row["learning_rate"] for row in metrics(tmp_path / "whole")]
    assert len(rates) == 8
    assert rates[4:] == expected[4:]
    assert rates[4] == pytest.approx(0.5 * 5e-3)
    checkpoint = tmp_path / "run" / "checkpoint-4"
    assert distance(tmp_path / "run", checkpoint) > 0


def test_a_resumed_run_is_checked(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shape = {"save_strategy": "steps", "save_steps": 4}
    run(model, tmp_path / "run", **shape)
    with pytest.raises(ArtifactError, match="began with learning_rate"):
        run(model, tmp_path / "run", **shape, learning_rate=1e-4, resume_from_checkpoint=True)
    assert len(metrics(tmp_path / "run")) == 8
    run(model, tmp_path / "run", **shape, num_train_epochs=2, resume_from_checkpoint=True)
    assert "goes on with num_train_epochs: 2.0 (began with 1.0)" in capfd.readouterr().err
    assert len(metrics(tmp_path / "run")) == 16
