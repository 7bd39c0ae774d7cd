"""Judges by name, as options and configs give them."""

from __future__ import annotations

from pathlib import Path

from palate.data.scores import WinShare
from palate.feedback.judges.scores import ScoreJudge
from palate.records import Judge, RewardFunction


def load_judge(spec: str, *, key: str = "--judge") -> Judge:
    """Load a judge, which prefers the answer with the higher score.

    | spec                                    | score                                    |
    |-----------------------------------------|------------------------------------------|
    | `length:shorter`, `length:longer`       | the answer's length                      |
    | `lexicon:FILE`, `lexicon:thanks,-damn`  | the mean weight of the listed words      |
    | `module:function`, `file.py:function`   | from `function(prompts, completions, …)` |
    | a folder                                | from the reward model in it              |

    Raises:
        ConfigError: there is no such judge.
        ModelError: the folder has no reward model.
    """
    from palate.models.reward.model import load_reward  # torch

    return ScoreJudge(spec, load_reward(spec, key), log_odds=Path(spec).is_dir())


def judge_reward(spec: str) -> RewardFunction:
    """Load a judge as a reward function for a config's `rewards`: the reward is the answer's share of wins."""
    return WinShare(load_judge(spec, key="rewards"))
