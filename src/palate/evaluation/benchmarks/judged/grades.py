"""Grades from 1 to 10 for each turn of a model's answers; a question's score is the mean of its turns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palate.errors import FunctionError, UsageError
from palate.evaluation.benchmarks.benchmark import Outcome
from palate.evaluation.benchmarks.judged.benchmark import AnswerSet, JudgedBenchmark, JudgedData, Question
from palate.evaluation.benchmarks.kept import KeptOutcomes, batch_key
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.preparation import Preparation
from palate.feedback.judges.replies import HIGHEST, LOWEST, shortened
from palate.feedback.judges.scores import ScoreJudge
from palate.progress import progress
from palate.records import Dropped, Judge

MAX_TOKENS = 2048
"""Of a judge's reply."""
BATCH = 32
_RATING = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))


@dataclass(frozen=True, slots=True)
class Grade:
    """A judge's grade, or why there is none; `missing` if the judge gave no reply and may be asked again."""

    value: float | None
    reason: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class GradedTurn:
    """What is graded: a question with the answers to its first turns, of which the last one counts."""

    question: Question
    answers: tuple[str, ...]


def check_grader(judge: Judge) -> None:
    """Raises UsageError if the judge compares answers, but cannot grade one."""
    if isinstance(judge, ApiJudge) or (isinstance(judge, ScoreJudge) and judge.kind == "rule"):
        return
    what = "a reward model" if isinstance(judge, ScoreJudge) else "a jury"
    raise UsageError(
        f"{judge.name}: {what} gives no grade from {LOWEST} to {HIGHEST}; name openai:MODEL or a file.py:function with "
        "--judge, or let it compare answers with --pairwise"
    )


def read_rating(text: str) -> Grade:
    """The grade in a reply: the first `[[5]]`, else the first `[5]`, as FastChat reads it, from 1 to 10."""
    found = next((match for pattern in _RATING if (match := pattern.search(text)) is not None), None)
    if found is None:
        return Grade(None, f"no rating [[1]] to [[10]]: {shortened(text)}")
    value = float(found[1])
    if not LOWEST <= value <= HIGHEST:
        return Grade(None, f"the rating {found[1]} is not from {LOWEST} to {HIGHEST}: {shortened(text)}")
    return Grade(value, shortened(text))


def grade_turns(
    asked: Sequence[GradedTurn], judge: Judge, benchmark: JudgedBenchmark, data: JudgedData, kept: KeptOutcomes
) -> list[Grade]:
    """A grade for each turn. Replies over an API are kept in the store, grades of a function in `kept`.

    Raises:
        EngineError: the judge's endpoint refuses every request, or cannot be reached any more.
        FunctionError: a function's grade is not from 1 to 10.
    """
    if isinstance(judge, ScoreJudge):
        return _by_function(asked, judge, kept)
    assert isinstance(judge, ApiJudge)  # `check_grader`
    assert benchmark.grading is not None
    grading = benchmark.grading
    found: dict[int, Grade] = {}
    with progress("answers graded", len(asked)) as graded:

        def made(index: int, reply: Preparation) -> None:
            found[index] = Grade(None, reply.problem, reply.missing) if reply.problem else read_rating(reply.text)
            graded.advance()

        conversations = [grading(one.question, one.answers, data) for one in asked]
        judge.ask_own(conversations, MAX_TOKENS, _read, made)
    return [found[index] for index in range(len(asked))]


def _read(text: str) -> Preparation:
    grade = read_rating(text)
    return Preparation(text, problem="" if grade.value is not None else grade.reason)


def _by_function(asked: Sequence[GradedTurn], judge: ScoreJudge, kept: KeptOutcomes) -> list[Grade]:
    found: list[Grade] = []
    for start in range(0, len(asked), BATCH):
        some = asked[start : start + BATCH]
        prompts = [one.question.conversation(one.answers[:-1]) for one in some]
        texts = [
            "\x1e".join([*(turn.content for turn in prompt), one.answers[-1]]) for prompt, one in zip(prompts, some)
        ]
        key = batch_key({"kind": "grades", "judge": judge.name}, texts)
        outcomes = kept.read(key)
        if outcomes is None:
            scores = judge.scores(prompts, [one.answers[-1] for one in some])
            for value in scores:
                if value is not None and not LOWEST <= value <= HIGHEST:
                    raise FunctionError(f"{judge.name} gave {value:g}; a grade is from {LOWEST} to {HIGHEST}, or None")
            outcomes = [Outcome(() if value is None else (value,)) for value in scores]
            kept.write(key, outcomes)
        found += [Grade(one.scores[0]) if one.scores else Grade(None, "the function gave no grade") for one in outcomes]
    return found


def question_scores(
    questions: Sequence[Question], answers: AnswerSet, grade: Callable[[Sequence[GradedTurn]], list[Grade]]
) -> tuple[dict[str, dict[str, float]], list[Dropped]]:
    """Question id → score and the grade of each turn; and the questions that are left out, with the reason."""
    asked = [
        GradedTurn(one, tuple(answer.text for answer in answers.answers[one.id][: turn + 1]))
        for one in questions
        if one.id in answers.answers
        for turn in range(len(one.turns))
    ]
    by_question: dict[str, list[Grade]] = {}
    for turn, found in zip(asked, grade(asked), strict=True):
        by_question.setdefault(turn.question.id, []).append(found)
    scores: dict[str, dict[str, float]] = {}
    left_out = []
    for question in questions:
        if question.id in answers.missing:
            left_out.append(no_answer(question, answers))
            continue
        grades = by_question[question.id]
        values = [one.value for one in grades if one.value is not None]
        if len(values) == len(grades):
            turns = {f"turn{number}": value for number, value in enumerate(values, 1)}
            scores[question.id] = {"score": sum(values) / len(values), **turns}
            continue
        number, bad = next((number, one) for number, one in enumerate(grades, 1) if one.value is None)
        reason = "no_reply" if bad.missing else "unparsed"
        left_out.append(Dropped(question.id, reason, f"{question.where}: turn {number}: {bad.reason}"))
    return scores, left_out


def no_answer(question: Question, answers: AnswerSet) -> Dropped:
    """A question without an answer, as one that is left out."""
    why = answers.missing[question.id]
    return Dropped(question.id, "too_long" if "too_long" in why else "no_answer", f"{question.where}: {why}")
