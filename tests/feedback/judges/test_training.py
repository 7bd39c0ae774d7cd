"""`rewards: openai:MODEL` in a run: the policy's answers are compared by the endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from chat_server import ChatServer, longer_wins, prompt_text, shown
from engines import serving
from palate.artifacts import read_jsonl
from palate.config.pipeline import load_pipeline
from palate.config.stages.rollout import Rewards, RewardTerm
from palate.errors import EngineError
from palate.feedback.judges.load import judge_reward
from palate.pipelines.pipeline import run_pipeline
from palate.training.run import train
from runs import config, config_file, metrics, write_rows
from tiny import save_tiny


@pytest.mark.parametrize("name", ["openai:m", "openai:m@http://h/v1", "jury:openai:m,openai:n"])
def test_a_judges_name_is_a_reward(name: str) -> None:
    assert TypeAdapter(Rewards).validate_python([name, "runs/rm"]) == [
        RewardTerm(reward=None, judge=name),
        RewardTerm(reward="runs/rm", judge=None),
    ]


def test_a_run_is_rewarded_by_the_endpoint(endpoint: ChatServer, tmp_path: Path) -> None:
    """The judge always says A, so both orders together give every answer that is compared the share ½."""
    endpoint.answer = lambda _: "A"
    keys = {
        "stage": "grpo",
        "dataset": str(write_rows(tmp_path / "p.jsonl", [{"prompt": f"{i} what is it"} for i in range(4)])),
        "rewards": "openai:m",
        "num_generations": 2,
        "max_new_tokens": 4,
        "cutoff_len": 128,
        "reference_cache": None,
        "per_device_train_batch_size": 8,
        "max_steps": 1,
    }
    train(config(save_tiny(tmp_path / "llama"), tmp_path / "run", **keys), judges=judge_reward)
    assert metrics(tmp_path / "run")[0]["rewards/openai:m"] == pytest.approx(0.5)
    assert 2 <= len(endpoint.requests) <= 8
    assert all(shown(body, "prompt").endswith("what is it") for body in endpoint.requests)


@pytest.mark.usefixtures("waits")
def test_a_round_with_missing_verdicts_stops_and_goes_on_later(endpoint: ChatServer, tmp_path: Path) -> None:
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(4)])
    with serving() as policy:
        given = {
            "stage": "dpo",
            "rounds": 1,
            "model_name_or_path": str(save_tiny(tmp_path / "llama")),
            "output_dir": str(tmp_path / "out"),
            "prompts": str(prompts),
            "judge": "openai:m",
            "candidates": 3,
            "candidate_url": policy.url,
            "candidate_model": "policy",
            "candidate_sync": "none",
            "report_to": "none",
            "sample_prompts": 0,
            "drift_samples": 0,
            "max_steps": 1,
        }
        path = config_file(tmp_path / "p.yaml", given)
        lost: list[str] = []

        def answer(body: dict[str, Any]) -> Any:
            """Fails on the first question that it gets."""
            lost[:] = lost or [prompt_text(body)]
            return {"choices": []} if prompt_text(body) == lost[0] else longer_wins(body)

        endpoint.answer = answer
        with pytest.raises(EngineError, match=r"round-1: \d+ of \d+ verdicts of openai:m are missing .*run again"):
            run_pipeline(load_pipeline(path), on_progress=lambda _: None)
        asked = len(endpoint.requests)
        endpoint.answer = longer_wins
        run_pipeline(load_pipeline(path), on_progress=lambda _: None)
    assert len(endpoint.requests) == asked + 1
    assert read_jsonl(tmp_path / "out" / "round-1-data" / "pairs.jsonl")
