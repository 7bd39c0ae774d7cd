"""Grades from 1 to 10 for each turn of a model's answers; a question's score is the mean of its turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from palate.errors import FunctionError, UsageError
from palate.evaluation.benchmarks.judged.benchmark import AnswerSet, JudgedBenchmark, JudgedData, Question
from palate.evaluation.benchmarks.labels import replies_of
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.preparation import Preparation
from palate.feedback.judges.replies import HIGHEST, LOWEST, shortened
from palate.feedback.judges.scores import ScoreJudge
from palate.records import Dropped, Judge

MAX_TOKENS = 2048
"""Of a judge's reply."""
Asked: TypeAlias = Sequence[tuple[Question, Sequence[str]]]
"""Questions, each with the answers to its first turns, of which the last one is graded."""
_RATING = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))


@dataclass(frozen=True, slots=True)
class Grade:
    """A judge's grade, or why there is none; `missing` if the judge gave no reply and may be asked again."""

    value: float | None
    reason: str = ""
    missing: bool = False


def check_grader(judge: Judge) -> None:
    """Raises UsageError if the judge compares answers, but cannot grade one."""
    built_in = judge.name.startswith(("length:", "lexicon:"))  # their scores are no grades
    if isinstance(judge, ApiJudge) or (isinstance(judge, ScoreJudge) and judge.kind == "rule" and not built_in):
        return
    what = "this rule" if built_in else "a reward model" if isinstance(judge, ScoreJudge) else "a jury"
    raise UsageError(
        f"{judge.name}: {what} gives no grade from {LOWEST} to {HIGHEST}; name openai:MODEL or a file.py:function with "
        "--judge, or let it compare answers with --pairwise"
    )


def grader_name(judge: Judge, references: str) -> str:
    """The judge with what it was asked: not palate's question, which is in a judge's own name."""
    return f"openai:{judge.model}/grades, {references} references" if isinstance(judge, ApiJudge) else judge.name


def read_rating(text: str) -> Grade:
    """The grade in a reply: the first `[[5]]`, else the first `[5]`, as FastChat reads it, from 1 to 10."""
    found = next((match for pattern in _RATING if (match := pattern.search(text)) is not None), None)
    if found is None:
        return Grade(None, f"no rating [[1]] to [[10]]: {shortened(text)}")
    value = float(found[1])
    if not LOWEST <= value <= HIGHEST:
        return Grade(None, f"the rating {found[1]} is not from {LOWEST} to {HIGHEST}: {shortened(text)}")
    return Grade(value, shortened(text))


def question_scores(
    questions: Sequence[Question], answers: AnswerSet, judge: Judge, benchmark: JudgedBenchmark, data: JudgedData
) -> tuple[dict[str, dict[str, float]], list[Dropped]]:
    """Question id → score and the grade of each turn; and the questions that are left out, with the reason.

    Raises:
        EngineError: the judge's endpoint refuses every request, or cannot be reached any more.
        FunctionError: a function's grade is not from 1 to 10.
    """
    asked = [
        (one, [answer.text for answer in answers.answers[one.id][: turn + 1]])
        for one in questions
        if one.id in answers.answers
        for turn in range(len(one.turns))
    ]
    grades = iter(
        _by_function(asked, judge) if isinstance(judge, ScoreJudge) else _by_chat(asked, judge, benchmark, data)
    )
    scores: dict[str, dict[str, float]] = {}
    left_out = []
    for question in questions:
        if question.id in answers.missing:
            why = answers.missing[question.id]
            reason = "too_long" if "too_long" in why else "no_answer"
            left_out.append(Dropped(question.id, reason, f"{question.where}: {why}"))
            continue
        turns = [next(grades) for _ in question.turns]
        values = [one.value for one in turns if one.value is not None]
        if len(values) == len(turns):
            by_turn = {f"turn{number}": value for number, value in enumerate(values, 1)}
            scores[question.id] = {"score": sum(values) / len(values), **by_turn}
            continue
        number, bad = next((number, one) for number, one in enumerate(turns, 1) if one.value is None)
        reason = "no_reply" if bad.missing else "unparsed"
        left_out.append(Dropped(question.id, reason, f"{question.where}: turn {number}: {bad.reason}"))
    return scores, left_out


def _by_chat(asked: Asked, judge: Judge, benchmark: JudgedBenchmark, data: JudgedData) -> list[Grade]:
    """Grades of a chat model; its replies are kept in the store."""
    assert isinstance(judge, ApiJudge)  # `check_grader`
    assert benchmark.grading is not None
    conversations = [benchmark.grading(question, answers, data) for question, answers in asked]
    replies = replies_of(judge, "answers graded", conversations, MAX_TOKENS, _read)
    return [Grade(None, one.problem, one.missing) if one.problem else read_rating(one.text) for one in replies]


def _read(text: str) -> Preparation:
    grade = read_rating(text)
    return Preparation(text, problem="" if grade.value is not None else grade.reason)


def _by_function(asked: Asked, judge: ScoreJudge) -> list[Grade]:
    """Grades of a function, which gets each answer with the conversation before it."""
    prompts = [question.conversation(answers[:-1]) for question, answers in asked]
    found = judge.scores(prompts, [answers[-1] for _, answers in asked])
    wrong = next((value for value in found if value is not None and not LOWEST <= value <= HIGHEST), None)
    if wrong is not None:
        raise FunctionError(f"{judge.name} gave {wrong:g}; a grade is from {LOWEST} to {HIGHEST}, or None")
    return [Grade(value, "" if value is not None else "the function gave no grade") for value in found]
