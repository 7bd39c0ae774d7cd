"""TruthfulQA: files, the arithmetic of its metrics, and the scoring of answers that share a prompt."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from palate.errors import DataError
from palate.evaluation.benchmarks.benchmark import AnswerSets, Item, Outcome
from palate.evaluation.benchmarks.source import read_file
from palate.evaluation.benchmarks.suite.truthfulqa import PRIMER, measure, primed, read

ROW: dict[str, Any] = {
    "question": "Is it so?",
    "mc0_targets": {"Yes": 1, "No": 0},
    "mc1_targets": {"Yes": 1, "No": 0, "Never": 0},
    "mc2_targets": {"Yes": 1, "It is": 1, "No": 0, "Never": 0},
}
HEAD = "Type,Category,Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers,Source\n"


def items(folder: Path, *rows: dict[str, Any]) -> list[Item]:
    path = folder / "mc_task.json"
    path.write_text(json.dumps(list(rows)), encoding="utf-8")
    return read([read_file(path)])


def test_one_set_of_choices_for_all_lists(tmp_path: Path) -> None:
    [item] = items(tmp_path, ROW)
    assert item.choices == ("Yes", "No", "Never", "It is")
    assert item.sets == {
        "binary": AnswerSets((0,), (1,)),
        "mc1": AnswerSets((0,), (1, 2)),
        "mc2": AnswerSets((0, 3), (1, 2)),
    }
    assert item.plain == primed("Is it so?")
    assert item.plain.startswith("Q: What is human life expectancy in the United States?\nA: Human life")
    assert item.plain.endswith("Barcelona, Spain.\n\nQ: Is it so?\nA:")
    assert len(PRIMER) == 6


def test_metrics_by_hand(tmp_path: Path) -> None:
    """p = (0.1, 0.2, 0.05, 0.15): the best answer loses to No; correct 0.25 of 0.5."""
    [item] = items(tmp_path, ROW)
    lost = Outcome(tuple(map(math.log, (0.1, 0.2, 0.05, 0.15))), (1, 1, 1, 2))
    assert measure(item, lost) == pytest.approx({"binary": 0.0, "mc1": 0.0, "mc2": 0.5})
    won = Outcome(tuple(map(math.log, (0.3, 0.2, 0.05, 0.05))), (1, 1, 1, 2))
    assert measure(item, won) == pytest.approx({"binary": 1.0, "mc1": 1.0, "mc2": 0.35 / 0.6})
    tie = Outcome(tuple(map(math.log, (0.2, 0.2, 0.1, 0.1))), (1, 1, 1, 2))
    assert measure(item, tie) == pytest.approx({"binary": 0.0, "mc1": 0.0, "mc2": 0.5})
    mixed = Outcome(tuple(map(math.log, (0.2, 0.1, 0.3, 0.1))), (1, 1, 1, 2))
    assert measure(item, mixed) == pytest.approx({"binary": 1.0, "mc1": 0.0, "mc2": 0.3 / 0.7})


def test_long_answers_do_not_underflow(tmp_path: Path) -> None:
    """exp(−2000) is 0 in floating point; the share is that of exp(0) and exp(−ln 3)."""
    [item] = items(tmp_path, ROW)
    outcome = Outcome((-2000.0, -2000.0 - math.log(3), -9000.0, -9000.0), (9, 9, 9, 9))
    assert measure(item, outcome)["mc2"] == pytest.approx(0.75)


def test_the_table_of_questions(tmp_path: Path) -> None:
    path = tmp_path / "TruthfulQA.csv"
    path.write_text(HEAD + "Adversarial,Law,Is it so?,Yes,No,Yes; It is,No;  Never ;No,x\n", encoding="utf-8")
    [item] = read([read_file(path)])
    assert (item.category, item.choices) == ("Law", ("Yes", "No", "Never", "It is"))
    assert item.sets["mc2"] == AnswerSets((0, 3), (1, 2))
    # With the JSON file as well, that one has the answers and the table the categories.
    other = tmp_path / "mc_task.json"
    other.write_text(json.dumps([{**ROW, "question": "is it  SO?"}]), encoding="utf-8")
    [both] = read([read_file(path), read_file(other)])
    assert (both.category, both.where) == ("Law", f"{other}, row 1")


def test_rows_of_the_hub(tmp_path: Path) -> None:
    """Lists of choices and labels in place of an object; no binary choice."""
    row = {
        "question": "Is it so?",
        "mc1_targets": {"choices": ["Yes", "No"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["Yes", "It is", "No"], "labels": [1, 1, 0]},
    }
    [item] = items(tmp_path, row)
    assert item.sets == {"mc1": AnswerSets((0,), (1,)), "mc2": AnswerSets((0, 2), (1,))}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROW, {**ROW, "question": ""}], "row 2: has no text named question"),
        ([{**ROW, "mc1_targets": None}], "row 1: has no answers named mc1_targets"),
        ([{**ROW, "mc1_targets": {"Yes": 1, "No": 2}}], "row 1: mc1_targets is no object of answers"),
        ([{**ROW, "mc1_targets": {"Yes": 1, "It is": 1, "No": 0}}], "row 1: the list for mc1 needs one right answer"),
        ([{**ROW, "mc2_targets": {"Yes": 1}}], "row 1: the list for mc2 needs right answers and wrong ones"),
        ([ROW, {**ROW, "question": "IS it so?"}], "row 2: has the question of .*row 1 again"),
    ],
)
def test_what_is_wrong_names_file_and_row(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(DataError, match=rf"mc_task\.json, {said}"):
        items(tmp_path, *rows)


def test_an_answer_of_both_columns_is_incorrect(tmp_path: Path) -> None:
    path = tmp_path / "TruthfulQA.csv"
    path.write_text(HEAD + "Adversarial,Law,Is it so?,Yes,No,Yes;Unknown,No;Unknown,x\n", encoding="utf-8")
    [item] = read([read_file(path)])
    right, wrong = (
        [item.choices[index] for index in part] for part in (item.sets["mc2"].right, item.sets["mc2"].wrong)
    )
    assert (right, sorted(wrong)) == (["Yes"], ["No", "Unknown"])


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    path = tmp_path / "TruthfulQA.csv"
    path.write_text(HEAD + "Adversarial,Law,Is it not?,Yes,No,Yes,No,x\n", encoding="utf-8")
    other = tmp_path / "mc_task.json"
    other.write_text(json.dumps([ROW]), encoding="utf-8")
    with pytest.raises(DataError, match=r"lacks questions of .*: 1 of 1 have no category"):
        read([read_file(path), read_file(other)])
    with pytest.raises(DataError, match=r"give one mc_task\.json, one TruthfulQA\.csv"):
        read([read_file(other), read_file(other)])
