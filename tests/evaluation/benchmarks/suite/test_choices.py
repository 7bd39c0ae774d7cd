"""SafetyBench, LLMBar, RewardBench 2 and RM-Bench: files and metrics, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.errors import DataError
from palate.evaluation.benchmarks.benchmark import AnswerSets, Outcome
from palate.evaluation.benchmarks.source import DataFile, read_file
from palate.evaluation.benchmarks.suite import llmbar, rewardbench2, rmbench, safetybench

SAFE: dict[str, Any] = {"id": 7, "category": "Law", "question": " Is it so?\n", "options": ["Yes.", "No."]}
PAIR: dict[str, Any] = {"input": "Say it.", "output_1": "It.", "output_2": "No.", "label": 2}
FOUR: dict[str, Any] = {"id": "a", "prompt": "Why?", "subset": "Math", "chosen": ["r"], "rejected": ["x", "y", "z"]}
STYLES: dict[str, Any] = {
    "id": 3,
    "prompt": "Why?",
    "domain": "chat",
    "chosen": ["r", "rr", "rrr"],
    "rejected": ["w", "ww", "www"],
}


def written(path: Path, value: Any) -> DataFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return read_file(path)


def test_safetybench_joins_questions_and_answers(tmp_path: Path) -> None:
    chinese = {**SAFE, "id": 8, "question": "是吗？", "options": ["是。", "否。", "不。"]}
    files = [
        written(tmp_path / "test_zh_subset.json", [SAFE, chinese]),
        written(tmp_path / "test_answers_zh_subset.json", {"7": {"category": "Law", "answer": 1}, "8": {"answer": 0}}),
    ]
    english, other = safetybench.read(files)
    assert english.plain == "Question: Is it so?\nOptions:\n(A) Yes.\n(B) No.\nAnswer:("
    assert english.prompt[0].content == "Question: Is it so?\nOptions:\n(A) Yes.\n(B) No.\nAnswer:"
    assert other.plain == "问题：是吗？\n选项：\n(A) 是。\n(B) 否。\n(C) 不。\n答案：("
    assert (english.id, english.choices, english.sets) == ("7", ("A", "B"), {"accuracy": AnswerSets((1,), (0,))})
    assert other.sets == {"accuracy": AnswerSets((0,), (1, 2))}
    assert safetybench.measure(english, Outcome((-2.0, -1.0), (1, 1))) == {"accuracy": 1.0}
    assert safetybench.measure(english, Outcome((-1.0, -2.0), (1, 1))) == {"accuracy": 0.0}
    # Answers may stand in the rows instead.
    assert safetybench.read([written(tmp_path / "own.json", [{**SAFE, "answer": 1}])])[0].sets == english.sets


@pytest.mark.parametrize(
    ("rows", "answers", "said"),
    [
        ([SAFE], None, r"row 1: has no answer; the answers are in test_answers_zh_subset\.json"),
        ([SAFE], {"7": 2}, "row 1: the answer 2 is no index of its 2 options"),
        ([SAFE], {"7": {"category": "Law"}}, "id 7: has no whole number named answer"),
        ([SAFE], {"7": 0, "9": 1}, "answers questions that .* lacks: 1, first 9"),
        ([{**SAFE, "options": ["Yes."]}], {"7": 0}, "row 1: has 1 options, 2 to 4 are needed"),
        ([{**SAFE, "options": "Yes."}], {"7": 0}, "row 1: has no list of texts named options"),
        ([{**SAFE, "category": None}], {"7": 0}, "row 1: has no text named category"),
        ([{**SAFE, "id": None}], {"7": 0}, "row 1: has no id named id"),
    ],
)
def test_safetybench_names_what_is_missing(tmp_path: Path, rows: list[Any], answers: Any, said: str) -> None:
    files = [written(tmp_path / "questions.json", rows)]
    if answers is not None:
        files.append(written(tmp_path / "answers.json", answers))
    with pytest.raises(DataError, match=said):
        safetybench.read(files)


def test_llmbar_by_set(tmp_path: Path) -> None:
    files = [
        written(tmp_path / "Natural" / "dataset.json", [PAIR]),
        written(tmp_path / "llmbar_other.json", [{**PAIR, "label": 1}]),
    ]
    first, second = llmbar.read(files)
    assert (first.id, first.category, first.sets["accuracy"]) == ("Natural-1", "Natural", AnswerSets((1,), (0,)))
    assert (second.id, second.category, second.sets["accuracy"]) == (
        "llmbar_other-1",
        "llmbar_other",
        AnswerSets((0,), (1,)),
    )
    # Per token −1 against −0.9, although the whole second answer is less likely.
    assert llmbar.measure(first, Outcome((-2.0, -9.0), (2, 10))) == {"accuracy": 1.0}
    assert llmbar.measure(first, Outcome((0.5, 0.5))) == {"accuracy": 0.5}
    with pytest.raises(DataError, match=r"dataset\.json, row 1: the label is a tie"):
        llmbar.read([written(tmp_path / "Natural" / "dataset.json", [{**PAIR, "label": 0}])])
    with pytest.raises(DataError, match=r"dataset\.json, row 1: has no text named output_2"):
        llmbar.read([written(tmp_path / "Natural" / "dataset.json", [{**PAIR, "output_2": None}])])


def test_best_of_four_and_ties(tmp_path: Path) -> None:
    ties = {**FOUR, "id": "b", "subset": "Ties", "chosen": ["r", "s"], "rejected": ["x", "y", "z", "w"]}
    four, tied = rewardbench2.read([written(tmp_path / "rb.json", [FOUR, ties])])
    assert (four.choices, tied.choices) == (("r", "x", "y", "z"), ("r", "s", "x", "y", "z", "w"))
    assert rewardbench2.measure(four, Outcome((3.0, 1.0, 2.0, 0.0))) == {"accuracy": 1.0}
    assert rewardbench2.measure(four, Outcome((1.0, 3.0, 2.0, 0.0))) == {"accuracy": 0.0}
    assert rewardbench2.measure(four, Outcome((1.0, 1.0, 1.0, 1.0))) == {"accuracy": 0.25}
    assert rewardbench2.measure(tied, Outcome((2.0, 3.0, 1.0, 0.0, 0.0, 1.5))) == {"ties": 1.0}
    assert rewardbench2.measure(tied, Outcome((2.0, 3.0, 1.0, 0.0, 0.0, 2.5))) == {"ties": 0.0}
    assert rewardbench2.measure(tied, Outcome((2.0, 3.0, 2.0, 0.0, 0.0, 1.0))) == {"ties": 0.0}
    with pytest.raises(DataError, match="row 1: has 1 chosen and 2 rejected answers, 1 and 3 are needed"):
        rewardbench2.read([written(tmp_path / "rb.json", [{**FOUR, "rejected": ["x", "y"]}])])


def test_nine_comparisons(tmp_path: Path) -> None:
    """Right scores (3, 2, 6), wrong scores (1, 5, 4).

    Rows of M: 3 beats 1 only; 2 beats 1 only; 6 beats all. Diagonal (1, 0, 1), upper right (0, 0, 0), lower left
    (1, 1, 1).
    """
    [item] = rmbench.read([written(tmp_path / "rm.json", [STYLES])])
    found = rmbench.measure(item, Outcome((3.0, 2.0, 6.0, 1.0, 5.0, 4.0)))
    assert found == pytest.approx({"easy": 1.0, "normal": 2 / 3, "hard": 0.0, "mean": 5 / 9})
    assert rmbench.measure(item, Outcome((1.0,) * 6)) == {"easy": 0.0, "normal": 0.0, "hard": 0.0, "mean": 0.0}
    with pytest.raises(DataError, match="row 1: chosen has 2 texts, 3 are needed"):
        rmbench.read([written(tmp_path / "rm.json", [{**STYLES, "chosen": ["r", "rr"]}])])
