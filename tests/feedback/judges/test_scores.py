"""Judges that score: their verdicts, and a judge as a reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from palate.data.scores import WinShare
from palate.errors import ConfigError
from palate.feedback.judges.load import load_judge
from palate.feedback.judges.scores import ScoreJudge
from palate.models.reward_model import RewardModel
from palate.records import Columns, Message, Messages, Verdict
from runs import pairs, run
from tiny import save_tiny

A: Messages = (Message("user", "a"),)
B: Messages = (Message("user", "b"),)


def test_a_rule_compares() -> None:
    judge = load_judge("length:shorter")
    verdicts = judge.compare([A, A, B], ["abc", "a", "abc"], ["a", "abc", "xyz"])
    assert [verdict.outcome for verdict in verdicts] == ["right", "left", "tie"]
    assert judge.name == "length:shorter"
    assert verdicts[0].reason == "-3 against -1"
    assert verdicts[0].probability_left is None


def test_a_difference_in_log_odds_becomes_a_probability() -> None:
    judge = ScoreJudge("rm", lambda prompts, texts: [float(text) for text in texts], log_odds=True)
    (verdict,) = judge.compare([A], ["1.5"], ["0.5"])
    assert verdict.outcome == "left"
    assert verdict.probability_left == pytest.approx(1 / (1 + math.exp(-1)))
    assert judge.compare([A], ["9999"], ["0"])[0].probability_left == pytest.approx(1.0)


@pytest.mark.parametrize("spec", ["length:wider", "lexicon:", "nobody", "no/such/folder"])
def test_what_is_no_judge_is_said(spec: str) -> None:
    with pytest.raises(ConfigError, match="--judge"):
        load_judge(spec)


def test_a_reward_models_folder_is_a_judge(tmp_path: Path) -> None:
    """It prefers what the model rewards more, with the probability that Bradley and Terry give."""
    model = save_tiny(tmp_path / "llama", initializer_range=0.2)
    run(model, tmp_path / "rm", stage="rm", learning_rate=1e-2, num_train_epochs=4, per_device_train_batch_size=8)
    folder = str(tmp_path / "rm")
    judge, rewards = load_judge(folder), RewardModel(folder)
    assert judge.name == folder
    rows = pairs(6, seed=3)
    asked = [(Message("user", row["prompt"]),) for row in rows]
    left, right = ([row[side] for row in rows] for side in ("rejected", "chosen"))
    margins = [a - b for a, b in zip(rewards(asked, left), rewards(asked, right), strict=True)]
    for verdict, margin in zip(judge.compare(asked, left, right), margins, strict=True):
        assert verdict.outcome == ("left" if margin > 0 else "right")
        assert verdict.probability_left == pytest.approx(1 / (1 + math.exp(-margin)), abs=1e-4)


def test_the_share_of_rivals_that_an_answer_beats() -> None:
    reward = WinShare(load_judge("length:longer"))
    # Within a: lengths 1, 2, 2; within b: one answer, which is compared with nothing and gets nothing.
    assert reward([A, B, A, A], ["x", "whatever", "yy", "zz"]) == [0.0, None, 0.75, 0.75]


def test_rows_with_equal_prompts_are_compared_apart() -> None:
    reward = WinShare(load_judge("length:longer"))
    texts = ["x", "yy", "zzz", "wwww"]
    assert reward([A] * 4, texts, group_of=[0, 0, 1, 1]) == [0.0, 1.0, 0.0, 1.0]
    assert reward([A] * 4, texts) == [0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]


class FirstWins:
    """A judge that likes whatever stands on the left, or cannot be read."""

    def __init__(self, outcome: str) -> None:
        self.name = "first"
        self._outcome = outcome

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        return [Verdict(self._outcome) for _ in prompts]  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", ["left", "right", "tie"])
def test_a_judge_with_a_favourite_place_rewards_nobody(outcome: str) -> None:
    assert WinShare(FirstWins(outcome))([A, A, A], ["x", "y", "z"]) == [0.5, 0.5, 0.5]


def test_an_unparsed_verdict_is_no_half_win() -> None:
    assert WinShare(FirstWins("unparsed"))([A, A, A], ["x", "y", "z"]) == [None, None, None]

    class LosesSight(FirstWins):
        """Reads the longer answer as better, and nothing about z."""

        def compare(self, prompts: Any, left: Any, right: Any, columns: Columns | None = None) -> list[Verdict]:
            return [
                Verdict("unparsed" if "z" in (a, b) else "left" if len(a) > len(b) else "right")
                for a, b in zip(left, right)
            ]

    # Two of three answers were compared with each other alone; with half wins they had ¾ and ¼, and z ½.
    assert WinShare(LosesSight(""))([A, A, A], ["xx", "y", "z"]) == [1.0, 0.0, None]


def test_a_function_that_gives_no_score_gives_no_verdict() -> None:
    judge = ScoreJudge("own", lambda prompts, texts: [None if text == "?" else len(text) for text in texts])
    verdicts = judge.compare([A, A, A], ["?", "a", "aa"], ["a", "?", "a"])
    assert [verdict.outcome for verdict in verdicts] == ["unparsed", "unparsed", "left"]
    assert verdicts[0].reason == "no score against 1"


def test_a_function_is_asked_with_the_columns_that_it_names() -> None:
    def right(prompts: Any, completions: Any, answer: list[str]) -> list[float]:
        return [float(text == wanted) for text, wanted in zip(completions, answer, strict=True)]

    judge = ScoreJudge("own", right)
    verdicts = judge.compare([A, B], ["1", "1"], ["2", "2"], {"answer": ["1", "2"], "other": [0, 0]})
    assert [verdict.outcome for verdict in verdicts] == ["left", "right"]
    with pytest.raises(ConfigError, match=r"own asks for the column 'answer', which no row has \(columns: other\)"):
        judge.check_columns({"other"})
