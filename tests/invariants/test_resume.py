"""Invariance 8: a run that was interrupted and resumed ends with the bits of one that was not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import palate.training.run
from palate.artifacts import read_jsonl
from runs import logged, metrics, pairs, run, run_json, weights, write_rows

# Five steps an epoch: checkpoint 4 lies within the first epoch, 6 within the second.
SHAPE: dict[str, Any] = {"rows": 10, "per_device_train_batch_size": 2, "num_train_epochs": 2}
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "dropout": {"dropout": 0.1, "lr_scheduler_type": "cosine", "warmup_steps": 2},
    "lora": {"finetuning_type": "lora", "lora_rank": 4, "lora_dropout": 0.2, "learning_rate": 1e-2},
    "freeze": {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "freeze_extra_modules": ["lm_head"]},
    "accumulated": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "weight_decay": 0.1},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [4, 6])
def test_resumed_equals_uninterrupted(model: Path, tmp_path: Path, kind: str, after: int) -> None:
    changed = {**SHAPE, **KINDS[kind], "save_strategy": "steps", "save_steps": 2}
    run(model, tmp_path / "whole", **changed)
    # What a kill between two checkpoints leaves: the older checkpoints and a log that is further than they are.
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    for step in range(after + 2, 11, 2):
        shutil.rmtree(tmp_path / "again" / f"checkpoint-{step}")
    run(model, tmp_path / "again", **changed, resume_from_checkpoint=True)

    expected, got = weights(tmp_path / "whole"), weights(tmp_path / "again")
    assert expected.keys() == got.keys()
    for name in expected:
        assert torch.equal(expected[name], got[name]), name
    assert metrics(tmp_path / "again") == metrics(tmp_path / "whole")
    assert [row["step"] for row in metrics(tmp_path / "again")] == list(range(1, 11))
    assert run_json(tmp_path / "again")["final_metrics"] == run_json(tmp_path / "whole")["final_metrics"]


def test_a_run_that_is_complete_resumes_to_itself(model: Path, tmp_path: Path) -> None:
    changed = {**SHAPE, "save_strategy": "steps", "save_steps": 5}
    run(model, tmp_path / "run", **changed)
    before, final = weights(tmp_path / "run"), run_json(tmp_path / "run")["final_metrics"]
    run(model, tmp_path / "run", **changed, resume_from_checkpoint=True)
    assert all(torch.equal(before[name], value) for name, value in weights(tmp_path / "run").items())
    assert run_json(tmp_path / "run")["final_metrics"] == final


def test_a_run_killed_behind_its_last_step_makes_no_other(model: Path, tmp_path: Path) -> None:
    """Its last step lies within an epoch; what is made after it is made again, and logged once."""
    held_out = {"eval_dataset": str(tmp_path / "pairs10.jsonl"), "sample_prompts": 1, "sample_max_new_tokens": 2}
    changed = {**SHAPE, "save_strategy": "steps", "save_steps": 1, "max_steps": 3, **held_out}
    run(model, tmp_path / "whole", **changed)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    (tmp_path / "again" / "model.safetensors").unlink()
    run(model, tmp_path / "again", **changed, resume_from_checkpoint=True)
    assert all(torch.equal(weights(tmp_path / "whole")[k], value) for k, value in weights(tmp_path / "again").items())
    for split, rows in (("train", 3), ("eval", 1)):
        assert logged(tmp_path / "again", split) == logged(tmp_path / "whole", split)
        assert len(logged(tmp_path / "again", split)) == rows
    samples = [read_jsonl(tmp_path / name / "samples.jsonl") for name in ("whole", "again")]
    assert samples[0] == samples[1]
    assert [row["step"] for row in samples[0]] == [0, 3]


@pytest.mark.parametrize("behind", [True, False], ids=["behind its last checkpoint", "before it"])
def test_a_run_that_stopped_early_stops_there_again(model: Path, tmp_path: Path, behind: bool) -> None:
    often = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    early = {"early_stopping_patience": 2, "eval_dataset": str(tmp_path / "held_out.jsonl")}
    # Every step makes held-out pairs worse: chosen and rejected are the other way round there.
    changed = {**SHAPE, **often, **early, "learning_rate": 1e-2}
    write_rows(tmp_path / "held_out.jsonl", [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in pairs(3)])
    run(model, tmp_path / "whole", **changed)
    last = metrics(tmp_path / "whole")[-1]["step"]
    assert last < 10
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    (tmp_path / "again" / "model.safetensors").unlink()
    if not behind:
        shutil.rmtree(tmp_path / "again" / f"checkpoint-{last}")
    run(model, tmp_path / "again", **changed, resume_from_checkpoint=True)
    assert all(torch.equal(weights(tmp_path / "whole")[k], value) for k, value in weights(tmp_path / "again").items())
    for split in ("train", "eval"):
        assert logged(tmp_path / "again", split) == logged(tmp_path / "whole", split)


def test_a_run_killed_before_its_first_checkpoint_logs_each_step_once(model: Path, tmp_path: Path) -> None:
    changed = {**SHAPE, "max_steps": 3, "sample_prompts": 1, "sample_max_new_tokens": 2}
    run(model, tmp_path / "run", **changed)
    expected = metrics(tmp_path / "run"), read_jsonl(tmp_path / "run" / "samples.jsonl")
    run(model, tmp_path / "run", **changed, resume_from_checkpoint=True)
    assert (metrics(tmp_path / "run"), read_jsonl(tmp_path / "run" / "samples.jsonl")) == expected


def test_a_longer_schedule_goes_on_from_a_named_checkpoint(model: Path, tmp_path: Path) -> None:
    """Constant rate: three epochs are two epochs and one more, also from a checkpoint of another run directory."""
    changed = {**SHAPE, "save_strategy": "epoch"}
    run(model, tmp_path / "short", **changed)
    run(model, tmp_path / "long", **{**changed, "num_train_epochs": 3})
    named = str(tmp_path / "short" / "checkpoint-10")
    run(model, tmp_path / "more", **{**changed, "num_train_epochs": 3}, resume_from_checkpoint=named)
    expected = weights(tmp_path / "long")
    assert all(torch.equal(expected[name], value) for name, value in weights(tmp_path / "more").items())


@pytest.mark.parametrize("rare", [True, False], ids=["more often", "less often"])
def test_other_intervals_hold_and_change_nothing_else(model: Path, tmp_path: Path, rare: bool) -> None:
    """Saved, evaluated and logged as the resumed run's config says; trained as the run that was not interrupted."""
    held_out = {"eval_dataset": str(write_rows(tmp_path / "held_out.jsonl", pairs(3, seed=9))), "dropout": 0.1}
    when = {"save_strategy": "steps", "eval_strategy": "steps"}
    steps = [{"save_steps": 4, "eval_steps": 4, "logging_steps": 4}, {"save_steps": 1, "eval_steps": 1}]
    began, now = steps if rare else reversed(steps)
    changed = {**SHAPE, **when, **held_out, "lr_scheduler_type": "cosine", "health": "off"}
    run(model, tmp_path / "whole", **changed, **now)
    run(model, tmp_path / "again", **changed, **began, max_steps=10)
    for checkpoint in (tmp_path / "again").glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > 4:
            shutil.rmtree(checkpoint)
    run(model, tmp_path / "again", **changed, **now, resume_from_checkpoint=True)

    expected, got = weights(tmp_path / "whole"), weights(tmp_path / "again")
    assert all(torch.equal(expected[name], value) for name, value in got.items())
    assert metrics(tmp_path / "again") == metrics(tmp_path / "whole")
    evaluated = [row["step"] for row in metrics(tmp_path / "again", "eval")]
    assert [step for step in evaluated if step > 4] == ([5, 6, 7, 8, 9, 10] if rare else [8, 10])
    saved = {int(path.name.rpartition("-")[2]) for path in (tmp_path / "again").glob("checkpoint-*")}
    assert {step for step in saved if step > 4} == ({5, 6, 7, 8, 9, 10} if rare else {8, 10})


def test_a_share_of_the_steps_is_one_of_the_longer_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers counts an interval below 1 as a share of all steps, of which a resumed run may have more."""
    made = palate.training.run.training_arguments

    def with_share(*given: Any) -> Any:
        arguments = made(*given)
        arguments.save_steps = 0.2
        return arguments

    monkeypatch.setattr(palate.training.run, "training_arguments", with_share)
    changed = {**SHAPE, "save_strategy": "steps"}
    run(model, tmp_path / "run", **changed)
    run(model, tmp_path / "run", **{**changed, "num_train_epochs": 4}, resume_from_checkpoint=True)
    saved = {int(path.name.rpartition("-")[2]) for path in (tmp_path / "run").glob("checkpoint-*")}
    assert saved == {2, 4, 6, 8, 10, 12, 16, 20}
