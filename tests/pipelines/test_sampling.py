"""Online rounds whose answers come from an engine that is told of each round's model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines import GOOD, serving
from palate.artifacts import read_jsonl
from palate.config.pipeline import load_pipeline
from palate.pipelines.pipeline import run_pipeline
from runs import config_file, metrics, write_rows

TELL = """
def tell(folder, name):
    with open({log!r}, "a") as file:
        file.write(folder + "\\n")

def has_the(prompts, completions):
    return [float("the" in text) for text in completions]
"""


def test_rounds_from_an_engine(model: Path, tmp_path: Path) -> None:
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(4)] + [{"x": 1}])
    said: list[str] = []
    (tmp_path / "own.py").write_text(TELL.format(log=str(tmp_path / "told")))
    with serving() as server:
        given: dict[str, Any] = {
            "stage": "dpo",
            "rounds": 2,
            "model_name_or_path": str(model),
            "output_dir": str(tmp_path / "out"),
            "prompts": str(prompts),
            "judge": f"{tmp_path}/own.py:has_the",
            "candidates": 4,
            "candidate_url": server.url,
            "candidate_model": "policy",
            "candidate_sync": f"{tmp_path}/own.py:tell",
            "precision": "fp32",
            "report_to": "none",
            "sample_prompts": 0,
            "drift_samples": 0,
            "per_device_train_batch_size": 4,
            "learning_rate": 5e-3,
        }
        run_pipeline(load_pipeline(config_file(tmp_path / "p.yaml", given)), on_progress=said.append)
    assert f"round-1: 1 row of {prompts} without a prompt, first prompts.jsonl:5" in said
    assert (tmp_path / "told").read_text().splitlines() == [str(model), str(tmp_path / "out" / "round-1")]
    for number in (1, 2):
        pairs = read_jsonl(tmp_path / "out" / f"round-{number}-data" / "pairs.jsonl")
        assert pairs
        assert all(GOOD in json.dumps(pair["chosen"]) for pair in pairs)
    assert metrics(tmp_path / "out" / "round-2")[-1]["rewards/margins"] >= 0
    seeds = [chat["seed"] for chat in server.chats]
    assert len(set(seeds)) == len(seeds) == 2 * 4 * 4, "another round samples other answers"
