"""Rewards as a config names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.config.stages.rollout import RewardTerm
from palate.errors import FunctionError
from palate.models.precision import FP32
from palate.training.online.rewards import build_rewards

PROMPTS = [()] * 2


def test_terms_are_added_with_their_weights_and_told_apart() -> None:
    terms = [RewardTerm(reward="length:longer", weight=0.5), RewardTerm(reward="lexicon:thanks", weight=-2.0)]
    rewarded = build_rewards(terms, precision=FP32)(PROMPTS, ["thanks", "no"])
    assert rewarded.total == [0.5 * 6 - 2.0, 0.5 * 2]
    assert rewarded.terms == {"length:longer": [6.0, 2.0], "lexicon:thanks": [1.0, 0.0]}


def test_a_judge_is_made_by_whoever_knows_judges() -> None:
    asked: list[str] = []

    def judges(spec: str):  # type: ignore[no-untyped-def]
        asked.append(spec)
        return lambda prompts, completions: [0.25] * len(completions)

    rewarded = build_rewards([RewardTerm(judge="kind", weight=4.0)], judges=judges, precision=FP32)(PROMPTS, ["a", "b"])
    assert (asked, rewarded.total) == (["kind"], [1.0, 1.0])


def test_a_users_function_is_checked(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def one(prompts, completions):\n    return [1.0]\n")
    rewards = build_rewards([RewardTerm(reward=f"{tmp_path}/own.py:one")], precision=FP32)
    with pytest.raises(FunctionError, match="gave 1 for 2; it must give one score for each answer"):
        rewards(PROMPTS, ["a", "b"])
