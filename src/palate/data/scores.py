"""Scores by rule: length, word lists, a user's own function. Judges compare by them, online training is rewarded."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from palate.config.functions import load_function, names_function
from palate.errors import ConfigError, FunctionError
from palate.records import Messages, RewardFunction


def rule_score(spec: str, key: str) -> RewardFunction | None:
    """The score that `length:…`, `lexicon:…`, `module:function` or `file.py:function` stands for; None for none.

    Raises:
        ConfigError: it has the form of one and cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    if kind == "length":
        return length_score(rest or "shorter", key)
    if kind == "lexicon":
        return lexicon_score(rest, key)
    return load_function(spec, key) if names_function(spec) else None


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
    """The mean weight of an answer's words, each word or phrase of the list counted as often as it occurs.

    Args:
        words: a file with `word or phrase` and, after a tab, its weight (1 where absent) in each line, or the words
            themselves with commas; one that begins with `-` counts −1.
        key: the config key or option, for messages.

    Raises:
        ConfigError: the file cannot be read, or no word is in it.
    """
    weights = _lexicon(words, key)
    pattern = re.compile(
        r"(?<!\w)(?:" + "|".join(re.escape(word) for word in sorted(weights, key=len, reverse=True)) + r")(?!\w)",
        re.IGNORECASE,
    )

    def score(prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
        del prompts
        return [
            sum(weights[found.lower()] for found in pattern.findall(completion)) / max(1, len(completion.split()))
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


def checked_scores(
    name: str, score: RewardFunction, prompts: Sequence[Messages], completions: Sequence[str]
) -> list[float]:
    """The scores of a reward function, which may be a user's: one finite number for each answer.

    Raises:
        FunctionError: another count, or something that is no finite number.
    """
    given = score(prompts, completions)
    try:
        scores = list(given)
    except TypeError:
        raise FunctionError(
            f"{name} gave {str(given)[:60]} for {len(completions)} answers; it must give a list with a number for each"
        ) from None
    if len(scores) != len(completions):
        raise FunctionError(
            f"{name} gave {len(scores)} scores for {len(completions)} answers; it must give one for each"
        )
    for value, completion in zip(scores, completions):
        # numpy's numbers are real numbers too.
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise FunctionError(f"{name} gave {value!r} for the answer {completion[:60]!r}; a score is a finite number")
    return [float(value) for value in scores]
