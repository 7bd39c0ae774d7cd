"""Invariance 9: two gloo processes end with the weights of one, whatever the number of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import verify_folder
from palate.config.load import config_from_values
from palate.training.run import train
from runs import config_file, distance, metrics, palate, run_json, values, write_rows
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
    "full, stored reference": {"per_device_train_batch_size": 4, "max_tokens_per_batch": 40, "reference_cache": "auto"},
    "lora, accumulated": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "finetuning_type": "lora",
        "lora_rank": 4,
        "learning_rate": 1e-2,
    },
    "full, coupled": {"per_device_train_batch_size": 4, "pref_loss": "aot", "reference_cache": "off"},
}


def given(folder: Path, model: Path, kind: str, processes: int, **changed: Any) -> dict[str, Any]:
    """The run in as many processes, each with its part of the batch that one process draws."""
    held_out = write_rows(folder.parent / "held_out.jsonl", make_pairs(3, seed=9))
    found = values(model, folder, **SHAPE, **KINDS[kind], eval_dataset=str(held_out), **changed)
    return {**found, "per_device_train_batch_size": found["per_device_train_batch_size"] // processes}


def both(folder: Path, model: Path, kind: str, **changed: Any) -> Path:
    """Train in two processes."""
    done = palate(
        "train", config_file(folder.with_suffix(".json"), given(folder, model, kind, 2, **changed)), processes=2
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("status") == 1  # one of the two speaks
    return folder


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def two(model: Path, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return both(tmp_path_factory.mktemp("two") / "run", model, kind)


def test_two_processes_end_with_the_weights_of_one(model: Path, tmp_path: Path, kind: str, two: Path) -> None:
    one = tmp_path / "one"
    train(config_from_values(given(one, model, kind, 1)).config)
    assert run_json(two)["machine"]["processes"] == 2
    moved = distance(model, one) if kind.startswith("full") else 1.0
    assert distance(one, two) < 1e-3 * moved
    for split, steps in (("train", [1, 2, 3, 4, 5, 6]), ("eval", [3, 6])):
        expected, got = metrics(one, split), metrics(two, split)
        assert [row["step"] for row in got] == [row["step"] for row in expected] == steps
        for row, other in zip(expected, got, strict=True):
            for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "ref_logps/rejected"):
                if name == "rewards/accuracies" and abs(row["rewards/margins"]) < 1e-5:
                    continue  # at the start margins are 0 up to rounding, and which side of 0 is chance
                assert other[name] == pytest.approx(row[name], rel=1e-3, abs=1e-4), (split, row["step"], name)
    assert verify_folder(two / "checkpoint-6") == []


# What differs between kinds is tested in one process.
@pytest.mark.parametrize("kind", ["full, stored reference"], indirect=True)
def test_a_run_of_two_processes_resumes(model: Path, tmp_path: Path, kind: str, two: Path) -> None:
    again = both(tmp_path / "again", model, kind, resume_from_checkpoint=str(two / "checkpoint-3"))
    assert distance(two, again) == 0.0
