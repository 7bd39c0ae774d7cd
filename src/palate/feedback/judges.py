"""Judges without a network: rules and reward models. Each scores both answers and prefers the higher score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from palate.data.scores import checked_scores, rule_score
from palate.errors import ConfigError
from palate.models.reward_model import RewardModel
from palate.records import Judge, Messages, RewardFunction, Verdict


class ScoreJudge:
    """Prefers the answer with the higher score; equal scores are a tie. The order of the two plays no part.

    Args:
        name: as votes record it.
        score: higher is better.
        log_odds: whether a difference of two scores is the log-odds that the one is better, as a Bradley–Terry
            reward model's is; then verdicts carry the probability.
    """

    def __init__(self, name: str, score: RewardFunction, *, log_odds: bool = False) -> None:
        self.name = name
        self._score = score
        self._log_odds = log_odds

    def compare(self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str]) -> list[Verdict]:
        scores = checked_scores(self.name, self._score, [*prompts, *prompts], [*left, *right])
        n = len(prompts)
        return [self._verdict(one, other) for one, other in zip(scores[:n], scores[n:])]

    def _verdict(self, left: float, right: float) -> Verdict:
        difference = left - right
        probability = 1 / (1 + math.exp(-max(-50.0, min(50.0, difference)))) if self._log_odds else None
        reason = f"{left:.6g} against {right:.6g}"
        if difference == 0:
            return Verdict("tie", reason, probability)
        return Verdict("left" if difference > 0 else "right", reason, probability)


class WinShare:
    """A judge as a reward: the share of the other answers to the same prompt that an answer beats; a tie counts ½.

    Each two answers are compared in both orders. An answer alone gets ½: there is nothing to compare it with.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def __call__(self, prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
        together: dict[Messages, list[int]] = {}
        for place, prompt in enumerate(prompts):
            together.setdefault(prompt, []).append(place)
        asked = [(i, j) for places in together.values() for i in places for j in places if i != j]
        verdicts = self._judge.compare(
            [prompts[i] for i, _ in asked], [completions[i] for i, _ in asked], [completions[j] for _, j in asked]
        )
        won = [0.0] * len(completions)
        for (i, j), verdict in zip(asked, verdicts, strict=True):
            # What could not be read decides nothing: half a win for each.
            share = {"left": 1.0, "right": 0.0}.get(verdict.outcome, 0.5)
            won[i] += share
            won[j] += 1 - share
        rivals = [len(together[prompt]) - 1 for prompt in prompts]
        return [wins / (2 * count) if count else 0.5 for wins, count in zip(won, rivals)]


def load_judge(spec: str, *, key: str = "--judge") -> Judge:
    """The judge that a text stands for.

    | spec                                    | prefers                                                    |
    |-----------------------------------------|------------------------------------------------------------|
    | `length:shorter`, `length:longer`       | the shorter or longer answer                               |
    | `lexicon:FILE`, `lexicon:thanks,-damn`  | the higher mean weight of the listed words                 |
    | `module:function`, `file.py:function`   | the higher score of `function(prompts, completions)`       |
    | a folder                                | the higher score of the reward model in it                 |

    Raises:
        ConfigError: it stands for none.
        ModelError: the folder holds no reward model.
    """
    if Path(spec).is_dir():
        return ScoreJudge(spec, RewardModel(spec), log_odds=True)
    score = rule_score(spec, key)
    if score is not None:
        return ScoreJudge(spec, score)
    raise ConfigError(
        f"{key}: {spec} is no judge; write length:shorter, lexicon:FILE, module:function or a reward model's folder"
    )
