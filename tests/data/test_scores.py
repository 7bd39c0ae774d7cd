"""Rules that score answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.data.scores import check_columns, checked_scores, length_score, lexicon_score, rule_score
from palate.errors import ConfigError, FunctionError
from palate.records import Message, Messages

PROMPT: Messages = (Message("user", "q"),)


def scores(rule: Any, *texts: str) -> list[float]:
    return checked_scores("rule", rule, [PROMPT] * len(texts), texts)


def test_length() -> None:
    assert scores(length_score("longer", "k"), " ab ", "abcd") == [2.0, 4.0]
    assert scores(length_score("shorter", "k"), "ab", "abcd") == [-2.0, -4.0]
    with pytest.raises(ConfigError, match="length:wider is not one of"):
        length_score("wider", "k")


def test_words_count_whole_and_in_any_case() -> None:
    rule = lexicon_score("thank you, please, -damn", "k")
    assert scores(rule, "Thank you please", "pleased", "Damn it all now", "") == [2 / 3, 0.0, -0.25, 0.0]


def test_letters_whose_lower_case_is_another_letter_count_too() -> None:
    score = lexicon_score("kind,-this", "judge")
    assert checked_scores("judge", score, [()] * 2, ["k\u0130nd", "thi\u017f"]) == [1.0, -1.0]


def test_a_file_gives_weights(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("# kind words\nsorry\nglad\t2.5\nnever ever\t-1\n")
    assert scores(lexicon_score(str(path), "k"), "glad sorry", "never ever again x") == [1.75, -0.25]
    path.write_text("glad\tvery\n")
    with pytest.raises(ConfigError, match="a weight is no number"):
        lexicon_score(str(path), "k")
    with pytest.raises(ConfigError, match="cannot be read"):
        lexicon_score(str(tmp_path / "none.txt"), "k")
    with pytest.raises(ConfigError, match="has no word"):
        lexicon_score(" , ", "k")


def test_a_specification_names_its_rule(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def last(prompts, completions):\n    return [ord(c[-1]) for c in completions]\n")
    for spec, expected in (("length:longer", 2.0), ("lexicon:ab", 1.0), (f"{tmp_path}/own.py:last", 98.0)):
        rule = rule_score(spec, "k")
        assert rule is not None
        assert scores(rule, "ab") == [expected]
    assert rule_score("runs/rm", "k") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1.0], "gave 1 for 2; it must give one score for each answer"),
        ([1.0, float("nan")], "finite number"),
        ([1.0, "high"], "finite number"),
        (np.array([1.0, np.inf], np.float32), "finite number"),
        (None, "gave None for 2 answers; it must give a list"),
        (3.0, "gave 3.0 for 2 answers; it must give a list"),
    ],
)
def test_what_a_users_function_gives_is_checked(given: Any, said: str) -> None:
    def rule(prompts: Sequence[Messages], completions: Sequence[str]) -> Any:
        return given

    with pytest.raises(FunctionError, match=said):
        scores(rule, "a", "b")


def test_numpys_numbers_are_scores() -> None:
    given = np.array([0.5, 2.0], np.float32)
    assert scores(lambda prompts, completions: given, "a", "b") == [0.5, 2.0]
    assert scores(lambda prompts, completions: [np.int64(3), True], "a", "b") == [3.0, 1.0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (lambda completions: [len(text) for text in completions], [1.0, 2.0]),
        (lambda asked, texts: [len(text) for text in texts], [1.0, 2.0]),
        (lambda _, completions: [len(text) for text in completions], [1.0, 2.0]),
        (lambda prompts, completions: [len(prompts)] * len(completions), [2.0, 2.0]),
        (lambda completions, answer: [float(a) for a in answer], [3.0, 4.0]),
        (lambda answer, completions: [float(a) for a in answer], [3.0, 4.0]),
        (lambda asked, texts, answer: [float(a) for a in answer], [3.0, 4.0]),
        (lambda prompts, completions, *, answer: [float(a) for a in answer], [3.0, 4.0]),
        (lambda prompts, completions, other=None: [float(other is None)] * 2, [1.0, 1.0]),
        (lambda prompts, completions, absent: [0.0 if a is None else 1.0 for a in absent], [0.0, 0.0]),
        (lambda completions, **kwargs: [len(kwargs)] * 2, [3.0, 3.0]),  # prompts, answer, level
        (lambda **kwargs: [len(text) for text in kwargs["completions"]], [1.0, 2.0]),
        (lambda *given: [len(given)] * 2, [2.0, 2.0]),
        (lambda prompts, completions: [None, 1.0], [None, 1.0]),
    ],
)
def test_a_function_is_called_by_what_its_signature_says(rule: Any, expected: list[float | None]) -> None:
    columns = {"answer": ["3", "4"], "level": [1, 2]}
    assert checked_scores("rule", rule, [PROMPT] * 2, ["a", "bb"], columns) == expected


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"rule asks for the column 'right', which no row has \(columns: answer, x\)"):
        check_columns("rule", lambda prompts, completions, right: [], {"x", "answer"})
    check_columns("rule", lambda prompts, completions, right=None, **_: [], set())
