"""What a judge prefers besides quality: a place, length, its own answers; and whether it says the same twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from palate.feedback.calibration.verdicts import Judged, answer_models
from palate.feedback.people_votes import prompt_clusters
from palate.feedback.votes import Outcome, QuestionKey
from palate.stats import Interval, PositionReport, newcombe_paired, position_report, rate_interval


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its interval, or why there is none."""

    interval: Interval | None
    reason: str = ""

    @classmethod
    def of(cls, keys: Sequence[QuestionKey], right: Sequence[bool], reason: str) -> Share:
        """The share of true values, with clusters by prompt; `reason` where there is no value."""
        return cls(rate_interval(right, clusters=prompt_clusters(keys))) if right else cls(None, reason)


@dataclass(frozen=True, slots=True)
class Preference:
    """How often a judge prefers answers of a kind, and how often people do on the same questions.

    Attributes:
        judge: share of the judge's decided verdicts for such an answer.
        people: share of people's majorities for it.
        difference: judge minus people, paired; None without questions.
    """

    judge: Share
    people: Share
    difference: Interval | None


def position(judged: Sequence[Judged]) -> PositionReport | None:
    """How much the order of the answers decides; None if no question has a readable verdict in both orders."""
    read = [one for one in judged if one.score is not None]
    if not read:
        return None
    first, second = zip(*(one.shares for one in read), strict=True)
    return position_report(first, second, clusters=prompt_clusters([one.key for one in read]))


def length_preference(judged: Sequence[Judged], outcomes: Mapping[QuestionKey, Outcome | None]) -> Preference:
    """Preference for the answer with more characters, where judge and people both decide and the lengths differ."""

    def longer_is_left(one: Judged) -> bool | None:
        left, right = (
            len(one.question.row.completions[index].text) for index in (one.question.left, one.question.right)
        )
        return None if left == right else left > right

    return _preference(judged, outcomes, longer_is_left, "no question with a decided verdict and a decided majority")


def self_preference(judged: Sequence[Judged], outcomes: Mapping[QuestionKey, Outcome | None], model: str) -> Preference:
    """Preference for answers that the judge's own model wrote, against answers of other models."""
    if not model:
        reason = "the judge is no model that writes answers, or does not name it"
        return Preference(Share(None, reason), Share(None, reason), None)

    def own_is_left(one: Judged) -> bool | None:
        models = answer_models(one.question.row)
        left, right = models[one.question.left] == model, models[one.question.right] == model
        return None if left == right else left

    return _preference(
        judged, outcomes, own_is_left, f"no decided question compares an answer of {model} with another's"
    )


def _preference(
    judged: Sequence[Judged],
    outcomes: Mapping[QuestionKey, Outcome | None],
    is_left: Callable[[Judged], bool | None],
    reason: str,
) -> Preference:
    keys, by_judge, by_people = [], [], []
    for one in judged:
        outcome, left = outcomes.get(one.key), is_left(one)
        if left is None or one.score is None or one.score == 0.5 or outcome not in ("left", "right"):
            continue
        keys.append(one.key)
        by_judge.append((one.score > 0.5) == left)
        by_people.append((outcome == "left") == left)
    if not keys:
        return Preference(Share(None, reason), Share(None, reason), None)
    pairs = list(zip(by_judge, by_people, strict=True))
    cells = [pairs.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))]
    return Preference(Share.of(keys, by_judge, reason), Share.of(keys, by_people, reason), newcombe_paired(*cells))


def repetition(once: Sequence[Judged], again: Sequence[Judged]) -> Share:
    """Share of equal verdicts when the same question is asked again; it bounds the consistency of orders."""
    keys, same = [], []
    for one, two in zip(once, again, strict=True):
        for before, after in zip(one.shares, two.shares, strict=True):
            if not math.isnan(before) and not math.isnan(after):
                keys.append(one.key)
                same.append(before == after)
    # Both orders of a question are one unit.
    return Share(rate_interval(same, clusters=keys)) if same else Share(None, "no verdict could be read twice")
