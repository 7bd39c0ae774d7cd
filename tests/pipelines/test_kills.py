"""Pipelines killed by SIGKILL at one change of the file system after the other end with the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_json
from runs import command, config_file, distance, logged, pairs, palate, run_json, write_rows

KILLS = Path(__file__).with_name("kills.py")
SCORES = """
def share_of_e(prompts, completions):
    return [10 * text.count("e") / max(1, len(text)) for text in completions]
"""


def given(model: Path, data: Path, out: Path) -> dict[str, Any]:
    return {
        "model_name_or_path": str(model),
        "output_dir": str(out),
        "precision": "fp32",
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "torch_threads": 1,
        "save_steps": 1,
        "max_steps": 3,
        "drift_prompts": str(data / "prompts.jsonl"),
        "drift_samples": 2,
        "drift_max_new_tokens": 4,
    }


def staged(data: Path) -> dict[str, Any]:
    """Supervised, on pairs, and PPO whose second step is made on answers that the first sampled."""
    online = {"dataset": str(data / "prompts.jsonl"), "rewards": f"{data}/scores.py:share_of_e"}
    steps = {"max_new_tokens": 5, "cutoff_len": 64, "ppo_epochs": 2, "sample_prompts": 0}
    return {
        "dataset": str(data / "pairs.jsonl"),
        "stages": [
            {"stage": "sft"},
            {"stage": "dpo", "val_size": 2, "sample_prompts": 1, "sample_max_new_tokens": 3},
            {"stage": "ppo", **online, **steps},
        ],
    }


def online(data: Path) -> dict[str, Any]:
    """Two rounds that sample, judge and train."""
    return {
        "stage": "dpo",
        "rounds": 2,
        "prompts": str(data / "prompts.jsonl"),
        "judge": "length:longer",
        "candidates": 3,
        "candidate_max_new_tokens": 5,
        "select": "all",
        "sample_prompts": 0,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", [staged, online], ids=["stages", "online rounds"])
def test_killed_before_one_change_after_the_other(model: Path, tmp_path: Path, kind: Any) -> None:
    write_rows(tmp_path / "pairs.jsonl", pairs(6))
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(4)])
    (tmp_path / "scores.py").write_text(SCORES)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = palate("train", config_file(tmp_path / "w.yaml", {**given(model, tmp_path, whole), **kind(tmp_path)}))
    assert done.returncode == 0, done.stderr
    path = config_file(tmp_path / "k.yaml", {**given(model, tmp_path, killed), **kind(tmp_path)})
    how = {**command(), "args": [sys.executable, str(KILLS), str(path), str(killed), "3"]}
    tried = subprocess.run(**how, timeout=600, check=False)
    said = json.loads(tried.stdout)
    assert said["exit"] == 0, (said["kills"][-3:], tried.stderr[-2000:])
    assert len(said["kills"]) > 15
    assert all(said["kills"]), "each child died before a change that it names"
    expected, got = (read_json(folder / "pipeline.json") for folder in (whole, killed))
    assert got["status"] == "completed"
    assert got["drift"] == expected["drift"]
    for run in expected["runs"]:
        ours, theirs = killed / run["name"], whole / run["name"]
        assert distance(theirs, ours) == 0.0
        assert run_json(ours)["status"] == "completed"
        assert (ours / "report.html").exists()
        for split in ("train", "eval"):
            assert logged(ours, split) == logged(theirs, split)
