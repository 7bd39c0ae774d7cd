"""Win rates of models, each corrected with the votes on its own answers."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from judged_world import world
from palate.feedback.calibration.correction import model_rates
from palate.feedback.calibration.verdicts import Judged, answer_models
from palate.feedback.candidates import AnswerOrigin, Candidates
from palate.feedback.judging import JudgeQuestion
from palate.records import Answer, Message, Verdict
from palate.stats import judge_accuracy, ppi_mean, rogan_gladen


def judged(row: Candidates, left: int, right: int, score: float | None) -> Judged:
    """Both orders for the left answer (1), for the right one (0), contradicting (½), or one unreadable (None)."""
    first, second = {1.0: ("left", "right"), 0.0: ("right", "left"), 0.5: ("left", "left"), None: ("left", "unparsed")}[
        score
    ]
    return Judged(JudgeQuestion(row, left, right, "left_first"), (Verdict(first), Verdict(second)))  # type: ignore[arg-type]


def row(name: str, *models: str) -> Candidates:
    answers = tuple(Answer(f"{name} {number}", "stop") for number in range(len(models)))
    return Candidates(name, (Message("user", name),), answers, columns={"models": list(models)})


def test_models_of_answers() -> None:
    one = row("a", "x", "y")
    assert answer_models(one) == ("x", "y")
    assert answer_models(replace(one, columns={}, origins=(AnswerOrigin("m"),) * 2)) == ("m", "m")
    assert answer_models(replace(one, columns={"models": ["x"]}, origins=(AnswerOrigin("m"),) * 2)) == ("m", "m"), (
        "a list of another length"
    )


def test_models_of_a_prompt_that_two_models_answered() -> None:
    plain = Candidates("a", (Message("user", "a"),), (Answer("b", "stop"), Answer("c", "stop")))
    two = plain.with_origins([AnswerOrigin("x"), AnswerOrigin("y")])
    assert answer_models(two) == ("x", "y")
    assert answer_models(replace(two, columns={"same_model": True})) == ("x", "x"), "equal weights under two names"


def test_scores_are_turned_to_each_model_and_its_own_are_no_win() -> None:
    rng = random.Random(0)
    found, labels = [], {}
    scores: dict[str, list[tuple[float | None, float]]] = {"x": [], "y": []}
    for number in range(60):
        swap = number % 2 == 1
        one = row(f"r{number}", *(("y", "x") if swap else ("x", "y")))
        for_x = rng.choice([1.0, 1.0, 0.0, 0.5])
        verdict = for_x if rng.random() < 0.85 else 1 - for_x
        found.append(judged(one, 0, 1, 1 - verdict if swap else verdict))
        label = None
        if number < 30:
            label = for_x
            labels["r" + str(number), 0, 1] = 1 - for_x if swap else for_x
        scores["x"].append((label, verdict))
        scores["y"].append((None if label is None else 1 - label, 1 - verdict))
    found += [judged(row("same", "x", "x"), 0, 1, 1.0), judged(row("none", "", "x"), 0, 1, 1.0)]
    found.append(judged(row("unread", "x", "y"), 0, 1, None))
    rates = model_rates(found, labels)
    assert rates.same_model == 2
    assert [(one.model, one.labelled, one.unlabelled, one.unparsed) for one in rates.models] == [
        ("x", 30, 30, 1),
        ("y", 30, 30, 1),
    ]
    for one in rates.models:
        y = [label for label, _ in scores[one.model] if label is not None]
        f = [verdict for label, verdict in scores[one.model] if label is not None]
        rest = [verdict for label, verdict in scores[one.model] if label is None]
        assert one.ppi == ppi_mean(y, f, rest)
        assert one.accuracy == judge_accuracy(y, f)
        assert one.rogan_gladen == rogan_gladen(rest, one.accuracy)
        assert one.people is not None
        assert one.people.estimate == pytest.approx(sum(y) / 30)
    (difference,) = rates.differences
    assert (difference.first, difference.second, difference.delta_j) == ("x", "y", pytest.approx(0))
    x, y = rates.models
    assert x.ppi.raw.estimate == pytest.approx(1 - y.ppi.raw.estimate)
    assert difference.win_rate.raw.estimate == pytest.approx(2 * x.ppi.raw.estimate - 1)


def test_a_difference_is_refused_where_the_judge_treats_models_differently() -> None:
    """Against the same opponent b, the judge sees x as people do and is wrong on a third of y."""
    found, labels = [], {}
    for number in range(120):
        name = "x" if number % 2 else "y"
        truth = float(number % 4 < 2)
        found.append(judged(row(f"r{number}", name, "b"), 0, 1, truth if name == "x" or number % 3 else 1 - truth))
        if number < 90:
            labels[f"r{number}", 0, 1] = truth
    rates = {(one.first, one.second): one for one in model_rates(found, labels).differences}
    refused = rates["x", "y"]
    assert refused.delta_j is not None
    assert refused.delta_j == pytest.approx(2 / 3, abs=0.01)
    assert refused.win_rate.interval is None
    assert "J differs by 0.6" in refused.win_rate.reason
    assert -1 < refused.win_rate.raw.estimate < 1


def test_several_pairs_of_a_prompt_are_one_unit_and_one_model_has_no_rate() -> None:
    rows = [row(f"r{number}", "x", "y", "y") for number in range(40)]
    found = [judged(one, 0, right, float(number % 3 > 0)) for number, one in enumerate(rows) for right in (1, 2)]
    labels = {(f"r{number}", 0, right): float(number % 2) for number in range(20) for right in (1, 2)}
    x = model_rates(found, labels).models[0]
    assert (x.labelled, x.unlabelled) == (40, 40)
    assert x.people is not None
    assert x.people.n == 20
    assert x.ppi.raw.n == 40
    plain = model_rates([judged(one, 0, 1, 1.0) for one in world(3)], {})
    assert plain.reason == "no question compares the answers of two named models"
    everything = model_rates(found, {one.key: 1.0 for one in found}).models[0]
    assert everything.rogan_gladen.reason == "every question has a vote of people; their own rate is the better one"
