"""Rewards of sampled answers: a weighted sum of rules, users' functions, reward models and judges."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from palate.config.stages.rollout import RewardTerm
from palate.data.scores import GROUP_OF, check_columns, checked_scores
from palate.errors import ConfigError
from palate.models.precision import Precision
from palate.models.reward_model import load_reward
from palate.records import Columns, Messages, RewardFunction

JudgeRewards: TypeAlias = Callable[[str], RewardFunction]
"""Makes a reward of a judge's name (`feedback.judges.load.judge_reward`)."""


@dataclass(frozen=True, slots=True)
class Rewarded:
    """The rewards of n answers.

    Attributes:
        total: Σ weight · reward over the terms that scored the answer, [n]; None where none did.
        terms: name → the term's own reward before its weight, [n]; None where it gave none.
    """

    total: list[float | None]
    terms: Mapping[str, list[float | None]]


class WeightedRewards:
    """Σ weight · reward over named terms; a term that gives None for an answer is left out of that answer's sum.

    Args:
        terms: (name, weight, function) of each.
    """

    def __init__(self, terms: Sequence[tuple[str, float, RewardFunction]]) -> None:
        self._terms = list(terms)
        self._names: frozenset[str] = frozenset()

    def __call__(
        self, prompts: Sequence[Messages], completions: Sequence[str], columns: Columns | None = None
    ) -> Rewarded:
        columns = {**dict.fromkeys(self._names, [None] * len(completions)), **(columns or {})}
        found = {
            name: checked_scores(f"rewards: {name}", function, prompts, completions, columns)
            for name, _, function in self._terms
        }
        total: list[float | None] = [None] * len(completions)
        for name, weight, _ in self._terms:
            for index, reward in enumerate(found[name]):
                if reward is not None:
                    total[index] = (total[index] or 0.0) + weight * reward
        return Rewarded(total, found)

    def check_columns(self, columns: Collection[str]) -> None:
        """Refuse a function that reads a column which no row of the datasets has; later calls get all of `columns`.

        Raises:
            ConfigError: names function and column.
        """
        self._names = frozenset(columns)
        for name, _, function in self._terms:
            check_columns(f"rewards: {name}", function, {*columns, GROUP_OF})


def build_rewards(
    terms: Sequence[RewardTerm], *, judges: JudgeRewards | None = None, precision: Precision
) -> WeightedRewards:
    """The rewards of a config.

    Raises:
        ConfigError: a term is neither rule, function nor folder, or it names a judge and `judges` is None.
        ModelError: a folder holds no reward model.
    """

    def function(term: RewardTerm) -> RewardFunction:
        if term.judge is None:
            return load_reward(term.reward or "", "rewards", precision=precision)
        if judges is None:
            raise ConfigError(f"rewards: judge {term.judge}: pass judges= to train(), as `palate train` does")
        return judges(term.judge)

    return WeightedRewards([(term.name, term.weight, function(term)) for term in terms])
