"""Invariance 9: two gloo processes end with the weights of one, whatever the number of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import verify_folder
from palate.config.load import config_from_values
from palate.training.run import train
from runs import config_file, distance, metrics, palate, run_json, train_several, values, write_rows
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


@pytest.fixture(scope="module")
def two(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds trained in two processes, which start once."""
    folder = tmp_path_factory.mktemp("processes") / "two"
    folder.mkdir()
    train_several([config_file(folder / f"{kind}.json", given(folder / kind, model, kind, 2)) for kind in KINDS])
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_end_with_the_weights_of_one(model: Path, tmp_path: Path, kind: str, two: Path) -> None:
    one, two = tmp_path / "one", two / kind
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
def test_a_run_of_two_processes_resumes(model: Path, tmp_path: Path, two: Path) -> None:
    kind = "full, stored reference"
    again = given(tmp_path / "again", model, kind, 2, resume_from_checkpoint=str(two / kind / "checkpoint-3"))
    done = palate("train", config_file(tmp_path / "again.json", again), processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("status") == 1  # one of the two speaks
    assert distance(two / kind, tmp_path / "again") == 0.0
