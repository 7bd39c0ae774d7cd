"""Pipelines and sweeps in two gloo processes: the main one samples, measures and writes, and both train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.artifacts import read_json, read_jsonl
from palate.config.pipeline import load_pipeline
from palate.pipelines.pipeline import run_pipeline
from runs import config_file, distance, metrics, palate, run_json, values, write_rows


def rounds(model: Path, folder: Path, processes: int) -> dict[str, Any]:
    """Two rounds on eight prompts; a step has the same rows in one process and in two."""
    folder.mkdir()
    write_rows(folder / "prompts.jsonl", [{"prompt": f"{i} what is it", "answer": "a" * i} for i in range(8)])
    (folder / "own.py").write_text(
        "def near(prompts, completions, answer):\n"
        "    return [-abs(len(c) - len(a)) for c, a in zip(completions, answer)]\n"
    )
    return {
        "stage": "dpo",
        "rounds": 2,
        "model_name_or_path": str(model),
        "output_dir": str(folder / "out"),
        "prompts": str(folder / "prompts.jsonl"),
        "judge": f"{folder}/own.py:near",
        "candidates": 3,
        "candidate_max_new_tokens": 8,
        "drift_samples": 2,
        "drift_max_new_tokens": 4,
        "precision": "fp32",
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "sample_prompts": 0,
        "reference_cache": "off",
        "max_steps": 3,
        "per_device_train_batch_size": 4 // processes,
    }


def test_rounds_of_two_processes_are_those_of_one(model: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run_pipeline(load_pipeline(config_file(tmp_path / "one.yaml", rounds(model, one, 1))))
    config = config_file(tmp_path / "two.yaml", rounds(model, two, 2))
    done = palate("train", config, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("status") == 1
    assert done.stderr.count("round-1: 8 prompts with 3 answers each") == 1
    assert read_json(two / "out" / "pipeline.json")["status"] == "completed"
    for number in (1, 2):
        for name in ("candidates.jsonl", "votes.jsonl"):
            mine, theirs = (read_jsonl(place / "out" / f"round-{number}-data" / name) for place in (one, two))
            assert len(theirs) == len(mine), f"round {number}: {name} was written once"
        assert run_json(two / "out" / f"round-{number}")["machine"]["processes"] == 2
        assert (two / "out" / f"round-{number}" / "report.html").exists()
    # Of the second round the answers may differ, as the weights of the first do by rounding.
    moved = distance(model, one / "out" / "round-1")
    assert distance(one / "out" / "round-1", two / "out" / "round-1") < 1e-3 * moved
    said: list[str] = []
    run_pipeline(load_pipeline(config), on_progress=said.append)
    assert [line.partition(",")[0] for line in said] == [f"round-{number}: finished already" for number in (1, 2)]


def test_a_sweep_of_two_processes_is_written_by_one(model: Path, tmp_path: Path) -> None:
    given = {**values(model, tmp_path / "out", rows=12), "val_size": 4, "max_steps": 2, "sweep": {"seed": [1, 2]}}
    done = palate("train", config_file(tmp_path / "sweep.yaml", given), processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    facts = read_json(tmp_path / "out" / "sweep.json")
    assert [point["status"] for point in facts["points"]] == ["completed", "completed"]
    for point in facts["points"]:
        run = tmp_path / "out" / point["name"]
        assert run_json(run)["machine"]["processes"] == 2
        assert [row["step"] for row in metrics(run)] == [1, 2]  # two writers would give each step twice
        assert point["accuracy"]["n"] == 4
    assert distance(*(tmp_path / "out" / point["name"] for point in facts["points"])) > 0
    assert done.stderr.count("point 1 of 2") == 1
