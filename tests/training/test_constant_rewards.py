"""A reward that tells no answer from another moves no policy: not by rounding, not by a noisy value head."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.objectives.policy_gradient import grpo_advantages, rloo_advantages
from palate.training.methods.online import global_whitened
from runs import metrics, run, write_rows
from training.methods.test_online import MASK, grpo, ppo, sampled

VALUES = (0.0, 0.1, 1 / 3, 1e6, -7.3)
# One value for all answers of a step, each value in turn.
IN_TURN = """
STEP = iter(range(10**6))

def same(prompts, completions):
    return [{values}[next(STEP) % 5]] * len(completions)
"""


def online(folder: Path, stage: str, **changed: Any) -> dict[str, Any]:
    prompts = write_rows(folder / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(4)])
    return {
        "stage": stage,
        "dataset": str(prompts),
        "max_new_tokens": 6,
        "cutoff_len": 64,
        "reference_cache": None,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 100,
        "max_steps": 20,
        "learning_rate": 5e-3,
        **changed,
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"advantage_estimator": "grpo"},
        {"advantage_estimator": "rloo"},
        {"scale_rewards": "batch", "precision": "bf16"},
    ],
    ids=["grpo", "rloo", "batch"],
)
def test_groups_of_equal_rewards_move_nothing_in_20_steps(model: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    (tmp_path / "own.py").write_text(IN_TURN.format(values=VALUES))
    run(model, tmp_path / "run", **online(tmp_path, "grpo", rewards=f"{tmp_path}/own.py:same", **changed))
    rows = metrics(tmp_path / "run")
    assert sorted({row["reward"] for row in rows}) == pytest.approx(sorted(VALUES))
    assert max(abs(row["kl"]) for row in rows) < 1e-6


@pytest.mark.parametrize(
    ("value", "changed"),
    [(0.1, {}), (-7.3, {"ppo_score_norm": True, "ppo_whiten_rewards": True})],
    ids=["plain", "whitened"],
)
def test_a_constant_reward_moves_nothing_in_20_steps_of_ppo(
    model: Path, tmp_path: Path, value: float, changed: dict[str, Any]
) -> None:
    """The value head would learn the constant first, and whitening make its errors as large as any advantage."""
    (tmp_path / "own.py").write_text(f"def same(prompts, completions):\n    return [{value}] * len(completions)\n")
    keys = online(tmp_path, "ppo", rewards=f"{tmp_path}/own.py:same", ppo_epochs=1, num_generations=2, **changed)
    run(model, tmp_path / "run", **keys)
    assert max(abs(row["kl"]) for row in metrics(tmp_path / "run")) < 1e-6


@pytest.mark.parametrize("size", [2, 3, 7, 8])
@pytest.mark.parametrize("value", [*VALUES, 1e-30, 1e30])
def test_equal_rewards_have_exactly_no_advantage(value: float, size: int) -> None:
    for dtype in (torch.float32, torch.float64):
        rewards = torch.full((3, size), value, dtype=dtype)
        assert not rloo_advantages(rewards).any()
        for scale in ("group", "none"):
            assert not grpo_advantages(rewards, scale=scale).any()  # type: ignore[arg-type]


def test_no_reward_is_left_out_of_its_group() -> None:
    rewards = torch.tensor([[1.0, math.nan, 3.0], [math.nan, math.nan, 5.0], [math.nan] * 3])
    # Of the first row 1 and 3 are compared; of the second one answer has nothing to be compared with.
    assert rloo_advantages(rewards).tolist() == [[-2.0, 0.0, 2.0], [0.0] * 3, [0.0] * 3]
    assert grpo_advantages(rewards, scale="none").tolist() == [[-1.0, 0.0, 1.0], [0.0] * 3, [0.0] * 3]
    expected = 1.0 / (math.sqrt(2.0) + 1e-4)
    assert grpo_advantages(rewards)[0].tolist() == pytest.approx([-expected, 0.0, expected])
    # The standard deviation of the batch is that of 1, 3 and 5.
    kept = grpo(scale_rewards="batch").prepare(sampled([1.0, math.nan, 3.0, 5.0]), training=True)["advantages"]
    assert kept.tolist() == pytest.approx([0.0, 0.0, -1 / 2.0001, 1 / 2.0001])


def test_small_differences_beside_a_large_reward_are_seen() -> None:
    """In float32, 1e6 + 0.01 is 1e6."""
    scores = [1e6, 1e6 + 0.01, 1e6, 1e6 - 0.01]
    logps = torch.tensor([[0.2, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    exact = replace(sampled([0.0] * 4, logps=logps), scores=torch.tensor(scores, dtype=torch.float64))
    kept = grpo(advantage_estimator="rloo", kl_coef=0.1).prepare(exact, training=True)["advantages"]
    assert kept.tolist() == pytest.approx([-0.01 - 0.02, 0.01 + 0.02, 0.01, -0.01], rel=1e-3)


def test_ppo_takes_scores_as_they_are_once_two_differ() -> None:
    method = ppo(kl_coef=0.0, lam=1.0)
    first = method.prepare(sampled([0.1] * 4), training=True)
    assert not first["advantages"].any()
    assert not first["returns"].any()
    other = method.prepare(sampled([0.2] * 4), training=True)
    assert other["returns"][0].tolist() == pytest.approx([0.2, 0.2])
    again = ppo(kl_coef=0.0, lam=1.0)
    again.state = method.state
    assert again.prepare(sampled([0.2] * 4), training=True)["returns"].any()


def test_ppo_leaves_out_answers_without_a_reward() -> None:
    values = torch.tensor([[0.5, 0.5], [0.5, 0.0], [0.5, 0.5], [0.5, 0.5]])
    kept = ppo(kl_coef=0.0, lam=1.0).prepare(sampled([1.0, math.nan, 3.0, 1.0], values=values), training=True)
    assert kept["returns"].tolist() == [[1.0, 1.0], [0.5, 0.0], [3.0, 3.0], [1.0, 1.0]]
    assert not kept["advantages"][1].any()
    of_the_others = kept["advantages"][MASK & torch.tensor([True, False, True, True])[:, None]]
    assert of_the_others.mean() == pytest.approx(0.0, abs=1e-6)
    assert of_the_others.std(correction=0) == pytest.approx(1.0, abs=1e-5)


def test_rounding_is_not_whitened_to_variance_one() -> None:
    values = torch.tensor([[1.0, 1.0 + 1e-7], [1.0, 0.0], [1.0 - 1e-7, 1.0], [1.0, 1.0]])
    assert not global_whitened(values, MASK, noise=1e-6).any()
    assert global_whitened(values, MASK).abs().max() > 0.5
    kept = global_whitened(values, MASK, centre=False, noise=1e-6)
    assert kept[MASK].tolist() == pytest.approx([1.0] * 7)
