"""Invariance 9: two gloo processes end with the weights of one, whatever the number of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import verify_folder
from runs import config_file, distance, metrics, palate, run, run_json, values, write_rows
from runs import pairs as make_pairs

# 11 rows: with two processes of two rows each the last step of an epoch lacks a row, and the evaluation's 3 do too.
SHAPE: dict[str, Any] = {
    "rows": 11,
    "num_train_epochs": 2,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "save_strategy": "steps",
    "save_steps": 3,
    "sample_prompts": 1,
    "sample_max_new_tokens": 3,
}
KINDS: dict[str, dict[str, Any]] = {
    "full": {"max_tokens_per_batch": 40},
    "lora accumulated": {"finetuning_type": "lora", "lora_rank": 4, "learning_rate": 1e-2, "accumulated": True},
}


def start(folder: Path, model: Path, kind: str, processes: int, **changed: Any) -> dict[str, Any]:
    held_out = write_rows(folder.parent / "held_out.jsonl", make_pairs(3, seed=9))
    shape = {**SHAPE, **KINDS[kind], "eval_dataset": str(held_out), **changed}
    accumulated = shape.pop("accumulated", False)
    # One process with batch 4 draws what two processes draw with batch 2, or with batch 1 twice.
    batch = 4 // processes
    if accumulated:
        shape |= {"per_device_train_batch_size": batch // 2, "gradient_accumulation_steps": 2}
    else:
        shape |= {"per_device_train_batch_size": batch}
    return values(model, folder, **shape, per_device_eval_batch_size=1)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_end_with_the_weights_of_one(model: Path, tmp_path: Path, kind: str) -> None:
    alone, both = tmp_path / "one", tmp_path / "two"
    given = start(alone, model, kind, 1)
    run(model, alone, **{key: value for key, value in given.items() if key not in ("model_name_or_path", "output_dir")})
    done = palate("train", config_file(tmp_path / "two.json", start(both, model, kind, 2)), processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("status") == 1  # one of the two speaks
    assert run_json(both)["machine"]["processes"] == 2

    moved = distance(model, alone) if kind == "full" else 1.0
    assert distance(alone, both) < 1e-3 * moved
    for split, steps in (("train", [1, 2, 3, 4, 5, 6]), ("eval", [3, 6])):
        expected, got = metrics(alone, split), metrics(both, split)
        assert [row["step"] for row in got] == [row["step"] for row in expected] == steps
        for one, other in zip(expected, got, strict=True):
            for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "ref_logps/rejected"):
                assert other[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), (split, one["step"], name)
    assert verify_folder(both / "checkpoint-6") == []


def test_a_run_of_two_processes_resumes(model: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    done = palate("train", config_file(tmp_path / "a.json", start(whole, model, "full", 2)), processes=2)
    assert done.returncode == 0, done.stderr
    again = start(tmp_path / "again", model, "full", 2, resume_from_checkpoint=str(whole / "checkpoint-3"), dropout=0.0)
    done = palate("train", config_file(tmp_path / "b.json", again), processes=2)
    assert done.returncode == 0, done.stderr
    assert distance(whole, tmp_path / "again") == 0.0
