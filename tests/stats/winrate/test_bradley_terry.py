"""Ratings against evalica and statsmodels, their symmetries, and what has no finite estimate."""

from __future__ import annotations

import math

import evalica
import numpy as np
import pandas as pd
import pytest
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from palate.stats import bradley_terry, ratable_groups
from palate.stats.winrate.bradley_terry import SCALE

NAMES = ["v1", "v2", "v3", "v4"]
STRENGTHS = dict(zip(NAMES, (0.0, 0.4, 0.7, -0.3), strict=True))


class Votes:
    """Verdicts of a seeded judge with a preference for the first slot: every pair on every prompt, in both orders."""

    def __init__(self, prompts: int, *, order: float = 0.3, length: float = 0.0, ties: float = 0.1, seed: int = 0):
        rng = np.random.default_rng(seed)
        pairs = [(a, b) for a in NAMES for b in NAMES if a != b]
        self.first = [a for _ in range(prompts) for a, _ in pairs]
        self.second = [b for _ in range(prompts) for _, b in pairs]
        self.prompts = [prompt for prompt in range(prompts) for _ in pairs]
        liked = rng.normal(0, 0.6, (prompts, len(NAMES)))  # what makes verdicts on one prompt depend on each other
        self.lengths = rng.normal(0, 1, len(self.first))
        logits = [
            STRENGTHS[a] - STRENGTHS[b] + order + liked[p, NAMES.index(a)] - liked[p, NAMES.index(b)]
            for a, b, p in zip(self.first, self.second, self.prompts, strict=True)
        ]
        won = rng.random(len(logits)) < 1 / (1 + np.exp(-np.array(logits) - length * self.lengths))
        self.scores = np.where(rng.random(len(logits)) < ties, 0.5, won.astype(float))

    def rated(self, **options: object) -> object:
        return bradley_terry(self.first, self.second, self.scores, self.prompts, **options)  # type: ignore[arg-type]


def test_ratings_are_those_of_evalica() -> None:
    drawn = Votes(60)
    winners = [
        {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}[score] for score in drawn.scores
    ]
    expected = evalica.bradley_terry(drawn.first, drawn.second, winners, tolerance=1e-12, limit=10_000).scores
    points = 1000 + SCALE * np.log(expected / expected["v1"])
    found = {one.model: one.rating.estimate for one in drawn.rated(order=False).ratings}  # type: ignore[attr-defined]
    # The ridge of 1e-5 moves a rating by far less than a point.
    assert found == pytest.approx(points.to_dict(), abs=0.05)
    assert SCALE * math.log(10) == pytest.approx(400)


def test_order_covariate_and_sandwich_are_those_of_statsmodels() -> None:
    drawn = Votes(80, length=0.5)
    found = bradley_terry(
        drawn.first, drawn.second, drawn.scores, drawn.prompts, covariates=[drawn.lengths], anchor="v1"
    )
    # v1 at 0: columns of the other three, the order, the covariate.
    columns = {name: [float(a == name) - float(b == name) for a, b in zip(drawn.first, drawn.second, strict=True)]
               for name in NAMES[1:]}  # fmt: skip
    design = np.column_stack([pd.DataFrame(columns).to_numpy(), np.ones(len(drawn.scores)), drawn.lengths])
    groups = {"groups": np.array(drawn.prompts), "use_correction": False}
    oracle = GLM(drawn.scores, design, family=Binomial()).fit(cov_type="cluster", cov_kwds=groups)
    covariance = np.asarray(oracle.cov_params()) * 80 / 79
    by_name = {one.model: one.rating for one in found.ratings}
    for at, name in enumerate(NAMES[1:]):
        assert by_name[name].estimate == pytest.approx(1000 + SCALE * oracle.params[at], abs=0.05)
    assert by_name["v1"].estimate == pytest.approx(1000)
    assert found.order is not None
    t79 = 1.9904502
    assert found.order.estimate == pytest.approx(oracle.params[3], abs=1e-4)
    assert found.order.high - found.order.estimate == pytest.approx(t79 * covariance[3, 3] ** 0.5, rel=1e-3)
    assert found.covariates[0].estimate == pytest.approx(oracle.params[4], abs=1e-4)
    for at, name in enumerate(NAMES[1:]):
        half = SCALE * t79 * covariance[at, at] ** 0.5
        assert by_name[name].high - by_name[name].estimate == pytest.approx(half, rel=1e-3)
    assert by_name["v1"].low == pytest.approx(by_name["v1"].high)


def test_swapping_every_verdict_mirrors_the_order_of_the_models() -> None:
    drawn = Votes(40, order=0.0)
    one = drawn.rated(anchor="v2").ratings  # type: ignore[attr-defined]
    other = bradley_terry(drawn.second, drawn.first, drawn.scores, drawn.prompts, anchor="v2").ratings
    mirrored = {rating.model: rating.rating for rating in other}
    for rating in one:
        assert mirrored[rating.model].estimate == pytest.approx(2000 - rating.rating.estimate)
        ends = (2000 - rating.rating.high, 2000 - rating.rating.low)
        assert (mirrored[rating.model].low, mirrored[rating.model].high) == pytest.approx(ends)
    assert [rating.model for rating in one] == [rating.model for rating in reversed(other)]


def test_copies_of_every_verdict_add_no_certainty() -> None:
    drawn = Votes(40)
    once = drawn.rated().ratings  # type: ignore[attr-defined]
    twice = bradley_terry(
        drawn.first * 2, drawn.second * 2, np.tile(drawn.scores, 2), drawn.prompts * 2, anchor="v1"
    ).ratings
    for one, two in zip(once, twice, strict=True):
        assert (one.model, 2 * one.comparisons) == (two.model, two.comparisons)
        assert (two.rating.low, two.rating.high) == pytest.approx((one.rating.low, one.rating.high), abs=0.01)


def test_ranks_count_the_models_that_are_wholly_above_and_do_not_depend_on_the_anchor() -> None:
    drawn = Votes(600)
    for anchor in NAMES:
        rated = drawn.rated(anchor=anchor).ratings  # type: ignore[attr-defined]
        assert [one.model for one in rated] == ["v3", "v2", "v1", "v4"]
        assert [one.rank for one in rated] == [1, 2, 3, 4]
    # 3 prompts cannot tell neighbours apart.
    assert {one.rank for one in Votes(3, seed=1).rated().ratings} <= {1, 2, 3}  # type: ignore[attr-defined]
    assert [one.rank for one in Votes(3, seed=1).rated().ratings].count(1) > 1  # type: ignore[attr-defined]


def test_models_without_a_chain_of_wins_are_not_rated_together() -> None:
    first, second = ["a", "b", "c", "c", "d", "e"], ["b", "a", "a", "b", "c", "f"]
    # a and b beat each other; c beat both always; d lost to c; e and f tied and met nobody else.
    assert ratable_groups(first, second, [1, 1, 1, 1, 0, 0.5]) == [["a", "b"], ["e", "f"], ["c"], ["d"]]
    # With one win of d over c, and one of b over c, there is a chain between all four.
    assert ratable_groups([*first, "d", "b"], [*second, "c", "c"], [1, 1, 1, 1, 0, 0.5, 1, 1]) == [
        ["a", "b", "c", "d"],
        ["e", "f"],
    ]
    assert ratable_groups([], [], []) == []


def test_an_order_that_cannot_be_told_from_the_models_is_left_out() -> None:
    one_order = bradley_terry(["a"] * 6, ["b"] * 6, [1, 1, 0, 1, 0.5, 1], range(6))
    assert one_order.order is None
    # 4.5 of 6: log-odds of 3.
    assert one_order.ratings[0].rating.estimate - 1000 == pytest.approx(0, abs=1e-9)
    assert one_order.ratings[1].rating.estimate == pytest.approx(1000 - SCALE * math.log(3), abs=0.1)
    both = bradley_terry(["a", "b"] * 3, ["b", "a"] * 3, [1, 0, 0, 1, 0.5, 1], range(6))
    assert both.order is not None


def test_a_judge_of_slots_only_has_no_finite_estimate() -> None:
    found = bradley_terry(["a", "b"] * 10, ["b", "a"] * 10, [1.0] * 20, [n // 2 for n in range(20)])
    assert found.ratings == ()
    assert "no finite estimate" in found.reason
    assert bradley_terry(["a", "b"], ["b", "a"], [1, 0.5], ["p", "p"]).reason == "ratings need two prompts or more"


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="one value a row"):
        bradley_terry(["a"], ["b"], [1, 0], ["p"])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        bradley_terry(["a"], ["b"], [2], ["p"])
    with pytest.raises(ValueError, match="with itself"):
        bradley_terry(["a"], ["a"], [1], ["p"])
    with pytest.raises(ValueError, match="anchor v9 is none of the models: a, b"):
        bradley_terry(["a"], ["b"], [1], ["p"], anchor="v9")
