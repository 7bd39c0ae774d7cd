"""Scores of answers by rule: length, word lists, a user's own function. Judges and online training use them."""

from __future__ import annotations

import inspect
import math
import numbers
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.config.functions import guarded, load_function, names_function
from palate.errors import ConfigError, FunctionError
from palate.plugins import load_plugin
from palate.records import LEFT_SHARE, Columns, Judge, Messages, RewardFunction


def rule_score(spec: str, key: str) -> RewardFunction | None:
    """The score of a rule: `length:…`, `lexicon:…`, `module:function`, `file.py:function` or a plug-in; else None.

    Raises:
        ConfigError: the rule cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    if kind == "length":
        return length_score(rest or "shorter", key)
    if kind == "lexicon":
        return lexicon_score(rest, key)
    if names_function(spec):
        return load_function(spec, key)
    plugin = load_plugin("rewards", spec)
    return None if plugin is None else guarded(plugin, spec, key)


def length_score(direction: str, key: str) -> RewardFunction:
    """Characters of the answer: `longer` or `shorter` is better.

    Raises:
        ConfigError: another word.
    """
    if direction not in ("longer", "shorter"):
        raise ConfigError(f"{key}: length:{direction} is not one of length:longer, length:shorter")
    sign = 1.0 if direction == "longer" else -1.0

    def score(prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
        del prompts
        return [sign * len(completion.strip()) for completion in completions]

    return score


def lexicon_score(words: str, key: str) -> RewardFunction:
    """The mean weight of an answer's words; a word or phrase of the list counts as often as it occurs.

    Args:
        words: a file with `word or phrase` and, after a tab, its weight (1 where absent) in each line, or the words
            themselves with commas; one that begins with `-` counts −1.
        key: the config key or option, for messages.

    Raises:
        ConfigError: the file cannot be read, or has no word.
    """
    weights = _lexicon(words, key)
    pattern = re.compile(
        r"(?<!\w)(?:" + "|".join(re.escape(word) for word in sorted(weights, key=len, reverse=True)) + r")(?!\w)",
        re.IGNORECASE,
    )

    def weight(found: str) -> float:
        if found.lower() in weights:
            return weights[found.lower()]
        # Letters that match case-insensitively but have another lower case: ſ as s, İ as i.
        return next(one for word, one in weights.items() if re.fullmatch(re.escape(word), found, re.IGNORECASE))

    def score(prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
        del prompts
        return [
            sum(map(weight, pattern.findall(completion))) / max(1, len(completion.split()))
            for completion in completions
        ]

    return score


def _lexicon(words: str, key: str) -> Mapping[str, float]:
    path = Path(words)
    if path.suffix in (".txt", ".tsv") or path.is_file():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{key}: lexicon {words} cannot be read: {error}") from error
        given = [line.partition("\t") for line in lines if line.strip() and not line.startswith("#")]
        try:
            weights = {word.strip().lower(): float(weight) if weight else 1.0 for word, _, weight in given}
        except ValueError as error:
            raise ConfigError(f"{key}: lexicon {words}: a weight is no number: {error}") from error
    else:
        listed = [word.strip().lower() for word in words.split(",") if word.strip()]
        weights = {word.removeprefix("-").strip(): -1.0 if word.startswith("-") else 1.0 for word in listed}
    weights.pop("", None)
    if not weights:
        raise ConfigError(f"{key}: lexicon {words!r} has no word; name a file or words with commas")
    return weights


GROUP_OF = "group_of"
"""A column that palate adds to those of a dataset: the number of an answer's prompt within the call."""


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns by name, None where a row lacks one."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def check_columns(name: str, score: RewardFunction, columns: Collection[str]) -> None:
    """Refuse a function that reads a column which no row has.

    Raises:
        ConfigError: names the column and the existing ones.
    """
    wanted = _signature(score, columns).columns
    missing = [name for name, required in wanted.items() if required and name not in columns]
    if missing:
        known = ", ".join(sorted(columns)) or "none"
        raise ConfigError(
            f"{name} asks for the column {missing[0]!r}, which no row has (columns: {known}); rename one with columns: "
            "or give the parameter a default"
        )


def checked_scores(
    name: str,
    score: RewardFunction,
    prompts: Sequence[Messages],
    completions: Sequence[str],
    columns: Columns | None = None,
) -> list[float | None]:
    """The scores of a reward function, checked: a finite number for each answer, or None for no score.

    A function whose signature names `completions` is called by keyword, with `prompts`, `completions` and the columns
    that it names (all with `**kwargs`), as TRL does; any other, also `f(anything, completions)`, as
    `score(prompts, completions)` with further columns by keyword.

    Raises:
        FunctionError: the wrong number of scores, or a score that is neither a finite number nor None.
    """
    given = _call(score, prompts, completions, columns or {})
    try:
        scores = list(given)
    except TypeError:
        raise FunctionError(
            f"{name} gave {str(given)[:60]} for {len(completions)} answers; it must give a list with a number for each"
        ) from None
    if len(scores) != len(completions):
        raise FunctionError(f"{name} gave {len(scores)} for {len(completions)}; it must give one score for each answer")
    for value, completion in zip(scores, completions):
        # numpy's numbers are real numbers too.
        if value is not None and (not isinstance(value, numbers.Real) or not math.isfinite(value)):
            raise FunctionError(
                f"{name} gave {value!r} for the answer {completion[:60]!r}; a score is a finite number, or None"
            )
    return [None if value is None else float(value) for value in scores]


@dataclass(frozen=True, slots=True)
class _Signature:
    """How a function is called.

    Attributes:
        by_keyword: with everything by keyword, `completions` and, if `prompts` is set, the prompts.
        prompts: whether it takes `prompts` by keyword.
        columns: the further parameters, with whether each is required.
        any_column: whether it takes `**kwargs`.
    """

    by_keyword: bool = False
    prompts: bool = False
    columns: Mapping[str, bool] = field(default_factory=dict)
    any_column: bool = False


def _signature(score: RewardFunction, columns: Collection[str]) -> _Signature:
    try:
        found = list(inspect.signature(score).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return _Signature()
    keywords = {
        one.name: one.default is one.empty for one in found if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }
    any_column = any(one.kind is one.VAR_KEYWORD for one in found)
    any_number = any(one.kind is one.VAR_POSITIONAL for one in found)
    first = [one.name for one in found if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)][:2]
    if first[1:] == ["completions"] and first[0] not in ("prompts", *columns):
        by_keyword = False  # its first parameter is the prompts by another name
    else:
        by_keyword = "completions" in keywords or (any_column and len(first) < 2 and not any_number)
    own = ["prompts", "completions"] if by_keyword else first
    free = {name: required for name, required in keywords.items() if name not in own}
    return _Signature(by_keyword, "prompts" in keywords or any_column, free, any_column)


def _call(score: RewardFunction, prompts: Sequence[Messages], completions: Sequence[str], columns: Columns) -> Any:
    signature = _signature(score, columns)
    given = {name: [None] * len(completions) for name, required in signature.columns.items() if required}
    for name, column in columns.items():
        if (signature.any_column or name in signature.columns) and name not in ("prompts", "completions"):
            given[name] = list(column)
    if not signature.by_keyword:
        return score(prompts, completions, **given)
    return score(completions=completions, **({"prompts": prompts} if signature.prompts else {}), **given)


class WinShare:
    """A judge as a reward: an answer's win rate against the other answers to the same prompt.

    Each two answers are compared in both orders, and a tie counts ½. A verdict that cannot be read counts for neither
    answer; an answer without a readable verdict, or without a rival, gets None.
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
            columns: of the answers' rows, for judges that read them.
        """
        together: dict[Hashable, list[int]] = {}
        for index, key in enumerate(prompts if group_of is None else group_of):
            together.setdefault(key, []).append(index)
        asked = [(i, j) for rivals in together.values() for i in rivals for j in rivals if i != j]
        verdicts = self._judge.compare(
            [prompts[i] for i, _ in asked],
            [completions[i] for i, _ in asked],
            [completions[j] for _, j in asked],
            {name: [column[i] for i, _ in asked] for name, column in columns.items()},
        )
        won, of = [0.0] * len(completions), [0] * len(completions)
        for (i, j), verdict in zip(asked, verdicts, strict=True):
            share = LEFT_SHARE.get(verdict.outcome)
            if share is None:
                continue
            won[i] += share
            won[j] += 1 - share
            of[i] += 1
            of[j] += 1
        return [wins / count if count else None for wins, count in zip(won, of)]
