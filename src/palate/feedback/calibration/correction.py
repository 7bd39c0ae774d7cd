"""Win rates of models by a judge, corrected with the votes of people on a part of the questions, model by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from palate.feedback.calibration.verdicts import Judged, answer_models
from palate.feedback.votes import QuestionKey
from palate.stats import (
    Corrected,
    Interval,
    JudgeAccuracy,
    corrected_difference,
    judge_accuracy,
    ppi_mean,
    rate_interval,
    rogan_gladen,
)


@dataclass(frozen=True, slots=True)
class ModelRate:
    """A model's win rate against the answers of other models, ties as ½.

    Attributes:
        model: its name.
        labelled: questions with a vote of people and a verdict.
        unlabelled: questions with a verdict only.
        unparsed: questions without a readable verdict, which are left out.
        people: win rate by people alone; None without a labelled question.
        accuracy: how well the judge recognises wins and losses of this model.
        ppi: PPI++.
        rogan_gladen: by sensitivity and specificity.
    """

    model: str
    labelled: int
    unlabelled: int
    unparsed: int
    people: Interval | None
    accuracy: JudgeAccuracy
    ppi: Corrected
    rogan_gladen: Corrected


@dataclass(frozen=True, slots=True)
class ModelDifference:
    """The difference of two models' win rates by PPI++; `delta_j` is that of the judge's J, None if unknown."""

    first: str
    second: str
    delta_j: float | None
    win_rate: Corrected


@dataclass(frozen=True, slots=True)
class ModelRates:
    """The win rates of all models.

    Attributes:
        models: sorted by name.
        differences: of every two models.
        same_model: questions that compare two answers of one model, which are no win of it.
        reason: why there are no rates; empty otherwise.
    """

    models: tuple[ModelRate, ...]
    differences: tuple[ModelDifference, ...]
    same_model: int
    reason: str = ""


def model_rates(judged: Sequence[Judged], labels: Mapping[QuestionKey, float]) -> ModelRates:
    """Win rates of each model whose answers were compared with those of others.

    Args:
        labels: the left answer's share of a win by the majority of people, for the questions that they voted on.
    """
    of: dict[str, list[tuple[Judged, bool]]] = {}
    same = 0
    for one in judged:
        models = answer_models(one.question.row)
        left, right = models[one.question.left], models[one.question.right]
        if left == right or not left or not right:
            same += 1
            continue
        of.setdefault(left, []).append((one, True))
        of.setdefault(right, []).append((one, False))
    rates = [rate for name in sorted(of) if (rate := _rate(name, of[name], labels)) is not None]
    if not rates:
        return ModelRates((), (), same, "no question compares the answers of two named models")
    return ModelRates(tuple(rates), tuple(_difference(*pair) for pair in combinations(rates, 2)), same)


def _rate(model: str, compared: Sequence[tuple[Judged, bool]], labels: Mapping[QuestionKey, float]) -> ModelRate | None:
    labelled: list[tuple[float, float, str]] = []
    others: list[tuple[float, str]] = []
    for one, is_left in compared:
        if one.score is None:
            continue
        verdict = one.score if is_left else 1 - one.score
        label = labels.get(one.key)
        if label is None:
            others.append((verdict, one.question.row.id))
        else:
            labelled.append((label if is_left else 1 - label, verdict, one.question.row.id))
    if not labelled and not others:
        return None
    y, f, prompts = [row[0] for row in labelled], [row[1] for row in labelled], [row[2] for row in labelled]
    rest, rest_prompts = [row[0] for row in others], [row[1] for row in others]
    repeated = len(set(prompts)) < len(prompts) or len(set(rest_prompts)) < len(rest_prompts)
    accuracy = judge_accuracy(y, f)
    return ModelRate(
        model=model,
        labelled=len(y),
        unlabelled=len(rest),
        unparsed=len(compared) - len(y) - len(rest),
        people=rate_interval(y, clusters=prompts if repeated else None) if y else None,
        accuracy=accuracy,
        ppi=ppi_mean(y, f, rest, clusters=(prompts, rest_prompts) if repeated else None),
        rogan_gladen=_rogan_gladen(f, rest, rest_prompts if repeated else None, accuracy),
    )


def _rogan_gladen(
    labelled: Sequence[float], rest: Sequence[float], prompts: Sequence[str] | None, accuracy: JudgeAccuracy
) -> Corrected:
    if rest:
        return rogan_gladen(rest, accuracy, clusters=prompts)
    return Corrected(
        rate_interval(labelled), None, "every question has a vote of people; their own rate is the better one"
    )


def _difference(first: ModelRate, second: ModelRate) -> ModelDifference:
    accuracies = (first.accuracy, second.accuracy)
    one, two = first.accuracy.j, second.accuracy.j
    delta = None if one is None or two is None else one - two
    return ModelDifference(first.model, second.model, delta, corrected_difference(first.ppi, second.ppi, accuracies))
