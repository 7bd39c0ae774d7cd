"""`rewards: openai:MODEL` in a run: the policy's answers are compared by the endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from chat_server import ChatServer, shown
from palate.config.stages.rollout import Rewards, RewardTerm
from palate.feedback.judges.load import judge_reward
from palate.training.run import train
from runs import config, metrics, write_rows
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
