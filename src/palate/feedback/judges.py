"""Judges without a network: rules and reward models. Each scores both answers and prefers the higher score."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

from palate.data.scores import check_columns, checked_scores, rule_score
from palate.errors import ConfigError
from palate.models.reward.model import RewardModel
from palate.records import Columns, Judge, Messages, RewardFunction, Verdict


class ScoreJudge:
    """Prefers the answer with the higher score; equal scores are a tie. The order of the two plays no part.

    Where the score of either is None there is no verdict: it is `unparsed`.

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
        self._names: frozenset[str] = frozenset()

    def compare(
        self,
        prompts: Sequence[Messages],
        left: Sequence[str],
        right: Sequence[str],
        columns: Columns | None = None,
    ) -> list[Verdict]:
        given = {**dict.fromkeys(self._names, [None] * len(prompts)), **(columns or {})}
        twice = {name: [*column, *column] for name, column in given.items()}
        scores = checked_scores(self.name, self._score, [*prompts, *prompts], [*left, *right], twice)
        n = len(prompts)
        return [self._verdict(one, other) for one, other in zip(scores[:n], scores[n:])]

    def check_columns(self, columns: Collection[str]) -> None:
        """Refuse a function that asks for a column which no row has; from now on all of them are given.

        Raises:
            ConfigError: names the column.
        """
        self._names = frozenset(columns)
        check_columns(self.name, self._score, columns)

    def _verdict(self, left: float | None, right: float | None) -> Verdict:
        if left is None or right is None:
            return Verdict("unparsed", f"{_text(left)} against {_text(right)}")
        difference = left - right
        probability = 1 / (1 + math.exp(-max(-50.0, min(50.0, difference)))) if self._log_odds else None
        reason = f"{left:.6g} against {right:.6g}"
        if difference == 0:
            return Verdict("tie", reason, probability)
        return Verdict("left" if difference > 0 else "right", reason, probability)


def _text(score: float | None) -> str:
    return "no score" if score is None else f"{score:.6g}"


_SHARES = {"left": 1.0, "right": 0.0, "tie": 0.5}


class WinShare:
    """A judge as a reward: the share of its comparisons with other answers to the same prompt that an answer wins.

    Each two answers are compared in both orders, and a tie counts ½. A verdict that cannot be read counts for neither
    answer; an answer without any verdict (also one that is alone) gets None.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def __call__(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[str],
        group_of: Sequence[int] | None = None,
        **columns: Sequence[Any],
    ) -> list[float | None]:
        """The reward of each answer.

        Args:
            group_of: which answers are to one row's prompt; without it, those to equal prompts.
            columns: of the answers' rows, for a judge that asks for them.
        """
        together: dict[Hashable, list[int]] = {}
        for place, key in enumerate(prompts if group_of is None else group_of):
            together.setdefault(key, []).append(place)
        asked = [(i, j) for places in together.values() for i in places for j in places if i != j]
        verdicts = self._judge.compare(
            [prompts[i] for i, _ in asked],
            [completions[i] for i, _ in asked],
            [completions[j] for _, j in asked],
            {name: [column[i] for i, _ in asked] for name, column in columns.items()},
        )
        won, of = [0.0] * len(completions), [0] * len(completions)
        for (i, j), verdict in zip(asked, verdicts, strict=True):
            if verdict.outcome == "unparsed":
                continue
            won[i] += _SHARES[verdict.outcome]
            won[j] += 1 - _SHARES[verdict.outcome]
            of[i] += 1
            of[j] += 1
        return [wins / count if count else None for wins, count in zip(won, of)]


def load_judge(spec: str, *, key: str = "--judge") -> Judge:
    """The judge that a text stands for.

    | spec                                    | prefers                                                    |
    |-----------------------------------------|------------------------------------------------------------|
    | `length:shorter`, `length:longer`       | the shorter or longer answer                               |
    | `lexicon:FILE`, `lexicon:thanks,-damn`  | the higher mean weight of the listed words                 |
    | `module:function`, `file.py:function`   | the higher score of `function(prompts, completions, …)`    |
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
