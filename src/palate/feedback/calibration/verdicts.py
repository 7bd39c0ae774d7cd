"""A judge's verdicts on questions, both orders side by side."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from palate.data.mix import drawn_key
from palate.feedback.candidates import SAME_MODEL, Candidates
from palate.feedback.judges.scores import ScoreJudge
from palate.feedback.judging import JudgeQuestion, compared
from palate.feedback.votes import QuestionKey
from palate.progress import progress
from palate.records import LEFT_SHARE, EachJudge, Judge, Verdict

_QUESTIONS_PER_CALL = 64


@runtime_checkable
class UncachedJudge(Protocol):
    """A judge that keeps verdicts, and can be had without its cache, to ask the same question again."""

    def uncached(self) -> Judge: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """The two verdicts on a pair of answers.

    Attributes:
        question: with the left answer shown first.
        verdicts: with the left answer first, then with the right one first; in a verdict `left` is the one shown first.
    """

    question: JudgeQuestion
    verdicts: tuple[Verdict, Verdict]

    @property
    def key(self) -> QuestionKey:
        return self.question.key

    @property
    def shares(self) -> tuple[float, float]:
        """The left answer's share of a win in each order; NaN if the verdict could not be read."""
        first, second = (LEFT_SHARE.get(verdict.outcome, math.nan) for verdict in self.verdicts)
        return first, 1 - second

    @property
    def score(self) -> float | None:
        """The left answer's share of a win over both orders, ½ if they contradict; None if one could not be read."""
        mean = sum(self.shares) / 2
        return None if math.isnan(mean) else mean

    @property
    def unparsed(self) -> int:
        """Number of verdicts that could not be read."""
        return sum(verdict.outcome not in LEFT_SHARE and not verdict.missing for verdict in self.verdicts)

    @property
    def missing(self) -> int:
        """Number of verdicts that the judge did not give at all."""
        return sum(verdict.missing for verdict in self.verdicts)


def ask(judge: Judge, asked: Sequence[JudgeQuestion], title: str = "questions judged") -> list[Judged]:
    """Ask about each question in both orders.

    Args:
        judge: the judge; a rule gets the columns of the questions' rows.
        asked: as `feedback.judging.questions` makes them: two orders of each pair, one after the other.
    """
    if isinstance(judge, ScoreJudge):
        judge.check_columns({name for question in asked for name in question.row.judge_columns})
    verdicts: dict[int, Verdict] = {}
    with progress(title, len(asked)) as done:

        def decided(index: int, verdict: Verdict) -> None:
            verdicts[index] = verdict
            done.advance()

        if isinstance(judge, EachJudge):  # with as many requests in flight as it allows
            judge.compare_each(*compared(asked), decided)
        else:
            for start in range(0, len(asked), _QUESTIONS_PER_CALL):
                for index, verdict in enumerate(judge.compare(*compared(asked[start : start + _QUESTIONS_PER_CALL]))):
                    decided(start + index, verdict)
    return [
        Judged(question, (verdicts[2 * number], verdicts[2 * number + 1])) for number, question in enumerate(asked[::2])
    ]


def select(
    asked: Sequence[JudgeQuestion], keys: Collection[QuestionKey], most: int | None, seed: int
) -> list[JudgeQuestion]:
    """Both orders of the questions among `keys`, at most `most` of them, drawn by seed and question."""
    pairs = [(first, second) for first, second in zip(asked[::2], asked[1::2], strict=True) if first.key in keys]
    if most is not None and len(pairs) > most:
        pairs.sort(key=lambda pair: drawn_key(seed, f"{pair[0].row.id} {pair[0].left} {pair[0].right}"))
        pairs = pairs[:most]
    return [question for pair in pairs for question in pair]


def answer_models(row: Candidates) -> tuple[str, ...]:
    """The model of each answer: of the column `models` if it is a list of them, else what the row says of its origin.

    Answers of equal weights under two names are of one model.
    """
    listed = row.columns.get("models")
    if isinstance(listed, list) and len(listed) == len(row.completions):
        return tuple(str(name or "") for name in listed)
    models = tuple(row.origin(number).model for number in range(len(row.completions)))
    return (models[0],) * len(models) if row.columns.get(SAME_MODEL) else models


def scores(judged: Iterable[Judged]) -> dict[QuestionKey, float | None]:
    """The score of each question that the judge gave both verdicts on; None if one cannot be read."""
    return {one.key: one.score for one in judged if not one.missing}
