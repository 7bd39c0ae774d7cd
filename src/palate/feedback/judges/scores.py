"""Judges that run in this process: rules and reward models. They prefer the answer with the higher score."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from palate.data.scores import check_columns, checked_scores
from palate.records import Columns, Messages, RewardFunction, Verdict


class ScoreJudge:
    """Prefers the answer with the higher score; equal scores are a tie. The order of the answers does not matter.

    If an answer has no score (None), the verdict is `unparsed`.

    Args:
        log_odds: True if the difference of two scores is in log-odds, as for a Bradley–Terry reward model; verdicts
            then include the probability.
    """

    def __init__(self, name: str, score: RewardFunction, *, log_odds: bool = False) -> None:
        self.name = name
        self.kind = "reward_model" if log_odds else "rule"
        self._score = score
        self._log_odds = log_odds
        self._names: frozenset[str] = frozenset()

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        """One verdict per prompt on its two answers; `columns` has one value per prompt."""
        return self.compare_in_context(prompts, prompts, left, right, columns)

    def compare_in_context(
        self,
        left_prompts: Sequence[Messages],
        right_prompts: Sequence[Messages],
        left: Sequence[str],
        right: Sequence[str],
        columns: Columns | None = None,
    ) -> list[Verdict]:
        """The same where each answer has a conversation of its own before it, as in a second turn."""
        twice = {name: [*column, *column] for name, column in (columns or {}).items()}
        # All left answers, then all right ones, in one call.
        scores = self.scores([*left_prompts, *right_prompts], [*left, *right], twice)
        n = len(left)
        return [self._verdict(left_score, right_score) for left_score, right_score in zip(scores[:n], scores[n:])]

    def scores(
        self, prompts: Sequence[Messages], completions: Sequence[str], columns: Columns | None = None
    ) -> list[float | None]:
        """The score of each answer; None for no score."""
        filled = {**dict.fromkeys(self._names, [None] * len(prompts)), **(columns or {})}
        return checked_scores(self.name, self._score, prompts, completions, filled)

    def check_columns(self, columns: Collection[str]) -> None:
        """Set the columns of the rows, which every later `compare` passes to the score function.

        Raises:
            ConfigError: the function has a parameter for a column that no row has; names the column.
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
