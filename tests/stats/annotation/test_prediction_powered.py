"""Corrected win rates: by hand, coverage in simulations, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from palate.stats import Corrected, corrected_difference, judge_accuracy, ppi_mean, rate_interval, rogan_gladen, wilson


def test_ppi_by_hand() -> None:
    y, f, rest = [1, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 1, 0, 1, 1, 1]
    # var of all 12 verdicts (8 ones): 12/11 · (2/3 · 1/3) = 8/33; cov(y, f) = (2 − 4·0.75·0.5) / 3 = 1/6.
    weight = (1 / 6) / ((1 + 4 / 8) * (8 / 33))
    found = ppi_mean(y, f, rest)
    assert found.weight == pytest.approx(weight)
    rectified = [1 - weight, 0, 1, 1 - weight]
    assert found.interval is not None
    assert found.interval.estimate == pytest.approx(weight * 0.75 + sum(rectified) / 4)
    variance = np.var(rectified, ddof=1) / 4 + weight**2 * np.var(rest, ddof=1) / 8
    # Wilson's interval of W with n = W(1−W)/Var, and at least that of the labels, 0.1875 / (0.25 / 4) = 3.
    rate = weight * 0.75 + sum(rectified) / 4
    n, z2 = max(rate * (1 - rate) / variance, 3.0), 1.959964**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    assert (found.interval.low, found.interval.high) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert found.interval.n == 4
    assert found.raw == rate_interval([*f, *rest])


def test_a_useless_judge_leaves_peoples_own_rate() -> None:
    y = [1, 0, 1, 1, 0, 1, 1, 0]
    for f in ([0.5] * 8, [1 - value for value in y]):  # says nothing; always contradicts
        found = ppi_mean(y, f, [0, 1] * 20)
        assert (found.weight, found.interval) == (0, rate_interval(y))
    assert ppi_mean(y, y, []).interval == rate_interval(y), "no unlabelled item"


def test_all_wins_keep_a_width() -> None:
    for f, rest in (([1] * 20, [1] * 80), ([1, 0] * 10, [1, 0] * 40)):
        found = ppi_mean([1] * 20, f, rest).interval
        assert found == wilson(20, 20)
    assert ppi_mean([1], [1], [1, 0]).reason == "a correction needs two labelled items or more, here 1"


def draw(
    rng: np.random.Generator, n: int, rate: float, sensitivity: float, specificity: float
) -> tuple[np.ndarray, np.ndarray]:
    y = (rng.random(n) < rate).astype(float)
    f = np.where(y == 1, rng.random(n) < sensitivity, rng.random(n) > specificity).astype(float)
    return y, f


def test_ppi_covers_and_is_narrower_than_people_alone() -> None:
    """STATISTICS: n = 100, N = 1000 covers 94 %. Here 600 draws: the standard error of the coverage is 0.9 points."""
    rng = np.random.default_rng(0)
    hits, raw_hits, widths, alone = 0, 0, [], []
    for _ in range(600):
        y, f = draw(rng, 100, 0.55, 0.85, 0.75)
        _, rest = draw(rng, 1000, 0.55, 0.85, 0.75)
        found = ppi_mean(y, f, rest)
        assert found.interval is not None
        hits += 0.55 in found.interval
        raw_hits += 0.55 in found.raw
        widths.append(found.interval.high - found.interval.low)
        own = rate_interval(y)
        alone.append(own.high - own.low)
    assert 0.92 <= hits / 600 <= 0.975
    assert raw_hits / 600 < 0.5, "the judge alone is biased"
    assert np.mean(widths) < 0.85 * np.mean(alone)


@pytest.mark.parametrize("rate", [0.95, 0.98])
def test_ppi_covers_where_few_labels_are_losses(rate: float) -> None:
    """100 labels have five or two losses on average; W ± z·√Var covered 88 % of 1,000 draws at a rate of 0.95."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(500):
        y, f = draw(rng, 100, rate, 0.9, 0.8)
        _, rest = draw(rng, 1000, rate, 0.9, 0.8)
        found = ppi_mean(y, f, rest).interval
        assert found is not None
        assert 0.0 <= found.low < found.high <= 1.0
        assert found.low <= found.estimate <= found.high
        hits += rate in found
    assert hits / 500 >= 0.92


def test_a_correction_without_any_variance_keeps_a_width() -> None:
    """Verdicts equal the labels, and the other items all have the same verdict: y − λ·f and f leave no variance."""
    found = ppi_mean([1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0], [1] * 60)
    assert found.weight is not None and found.weight > 0  # noqa: PT018
    assert found.interval is not None
    assert found.interval.high - found.interval.low > 0.1


def test_ppi_with_several_pairs_of_a_prompt_covers_only_with_clusters() -> None:
    """Five pairs of each prompt with a common win probability: 30 prompts have votes, 100 have none."""
    rng = np.random.default_rng(1)
    hits, careless = 0, 0
    for _ in range(400):
        data = []
        for prompts in (30, 100):
            rates = np.repeat(rng.beta(1, 1, prompts), 5)
            y = (rng.random(5 * prompts) < rates).astype(float)
            f = np.where(y == 1, rng.random(5 * prompts) < 0.85, rng.random(5 * prompts) > 0.85).astype(float)
            data.append((y, f, np.repeat(np.arange(prompts), 5)))
        (y, f, groups), (_, rest, others) = data
        found = ppi_mean(y, f, rest, clusters=(groups.tolist(), (others + 1000).tolist())).interval
        plain = ppi_mean(y, f, rest).interval
        assert found is not None
        assert plain is not None
        hits += 0.5 in found
        careless += 0.5 in plain
    assert hits / 400 >= 0.92
    assert careless / 400 < 0.88


def test_sensitivity_and_specificity_by_hand() -> None:
    # Wins 1, 1, ½ → 2.5, losses 1.5. Σ y·f = 1 + 0.5 + ½·1 = 2; Σ (1−y)(1−f) = 0 + 1·0.5 + ½·0 = 0.5.
    found = judge_accuracy([1, 1, 0.5, 0], [1, 0.5, 1, 0.5])
    assert found.sensitivity is not None
    assert found.specificity is not None
    assert (found.wins, found.losses) == (2.5, 1.5)
    assert found.sensitivity.estimate == pytest.approx(2 / 2.5)
    assert found.specificity.estimate == pytest.approx(0.5 / 1.5)
    assert found.j == pytest.approx(2 / 2.5 + 0.5 / 1.5 - 1)
    # The identity behind the correction.
    assert np.mean([1, 0.5, 1, 0.5]) == pytest.approx(0.625 * (2 / 2.5) + 0.375 * (1 - 0.5 / 1.5))
    one_sided = judge_accuracy([1, 1], [1, 0])
    assert (one_sided.specificity, one_sided.j, one_sided.reason) == (None, None, "no label is a loss")


def test_rogan_gladen_by_hand() -> None:
    # p = 0.6, q1 = 0.9 of 50, q0 = 0.8 of 50: θ = 0.4 / 0.7.
    accuracy = judge_accuracy([1] * 50 + [0] * 50, [1] * 45 + [0] * 5 + [1] * 10 + [0] * 40)
    found = rogan_gladen([1] * 60 + [0] * 40, accuracy).interval
    assert found is not None
    assert found.estimate == pytest.approx(0.4 / 0.7)
    # 0 is an end of the interval of p − (1−θ)(1−q0) − θ·q1, put together from Wilson's intervals of p, q1 and q0.
    p, q1, q0 = rate_interval([1] * 60 + [0] * 40), wilson(45, 50), wilson(40, 50)
    for theta, up in ((found.low, False), (found.high, True)):
        ends = [(p.high, q1.low, q0.high), (p.low, q1.high, q0.low)][0 if up else 1]
        squares = (
            (ends[0] - 0.6) ** 2,
            theta**2 * (ends[1] - 0.9) ** 2,
            (1 - theta) ** 2 * (ends[2] - 0.8) ** 2,
        )
        difference = 0.6 - (1 - theta) * 0.2 - theta * 0.9
        assert difference**2 == pytest.approx(sum(squares))
        assert (difference < 0) == up


def test_rogan_gladen_covers() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(500):
        y, f = draw(rng, 200, 0.5, 0.9, 0.7)
        _, rest = draw(rng, 1000, 0.65, 0.9, 0.7)
        found = rogan_gladen(rest, judge_accuracy(y, f)).interval
        assert found is not None
        hits += 0.65 in found
    assert 0.92 <= hits / 500 <= 0.985


def test_rogan_gladen_of_a_judge_hardly_better_than_chance_says_nothing() -> None:
    few = judge_accuracy([1] * 4 + [0] * 4, [1, 1, 1, 0, 0, 0, 0, 1])  # J 0.5, of 8 labels
    found = rogan_gladen([1] * 50 + [0] * 50, few).interval
    assert found is not None
    assert (found.estimate, found.low, found.high) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize("verdict", [0.0, 1.0])
def test_rogan_gladen_at_the_ends_keeps_a_width_or_is_refused(verdict: float) -> None:
    perfect = rogan_gladen([verdict] * 100, judge_accuracy([1] * 50 + [0] * 50, [1] * 50 + [0] * 50)).interval
    assert perfect is not None
    assert perfect.estimate == verdict
    assert perfect.high - perfect.low > 0.02
    good = judge_accuracy([1] * 50 + [0] * 50, [1] * 48 + [0] * 2 + [1] * 2 + [0] * 48)
    found = rogan_gladen([verdict] * 40, good).interval
    assert found is not None
    assert found.estimate == verdict
    assert found.estimate in found
    assert found.high - found.low > 0.02
    # A judge that calls a fifth of the losses wins cannot call none of 100 a win, nor all with a sensitivity of 0.8.
    poor = rogan_gladen([verdict] * 100, judge_accuracy([1] * 50 + [0] * 50, [1] * 40 + [0] * 10 + [1] * 10 + [0] * 40))
    assert poor.interval is None
    assert poor.reason.endswith("20.0% and 80.0%: the labelled items are not like the others")
    assert poor.raw.estimate == verdict


def test_a_judge_that_guesses_is_refused_beside_the_raw_rate() -> None:
    accuracy = judge_accuracy([1] * 20 + [0] * 20, ([1] * 12 + [0] * 8) * 2)
    found = rogan_gladen([1] * 70 + [0] * 30, accuracy)
    assert found.interval is None
    assert found.reason == "J is 0.00, below 0.3: the verdicts say too little about the labels"
    assert found.raw == rate_interval([1] * 70 + [0] * 30)
    assert rogan_gladen([1, 0], judge_accuracy([1], [1])).reason == "no label is a loss"


def test_differences_of_models() -> None:
    good = judge_accuracy([1] * 50 + [0] * 50, [1] * 45 + [0] * 5 + [1] * 5 + [0] * 45)  # J 0.8
    weak = judge_accuracy([1] * 50 + [0] * 50, [1] * 40 + [0] * 10 + [1] * 15 + [0] * 35)  # J 0.5
    none = judge_accuracy([1] * 50 + [0] * 50, [1] * 25 + [0] * 25 + [1] * 20 + [0] * 30)  # J 0.1
    one, two = Corrected(wilson(70, 100), wilson(65, 100)), Corrected(wilson(40, 100), wilson(45, 100))
    found = corrected_difference(one, two, (good, good))
    assert found.raw.estimate == pytest.approx(0.3)
    assert found.interval is not None
    assert found.interval.estimate == pytest.approx(0.2)
    low, high = wilson(65, 100), wilson(45, 100)
    assert found.interval.low == pytest.approx(0.2 - np.hypot(0.65 - low.low, high.high - 0.45))
    refused = corrected_difference(one, two, (good, weak))
    assert refused.interval is None
    assert refused.reason == "J differs by 0.30, more than 0.2: the judge treats the two differently"
    assert refused.raw == found.raw
    assert corrected_difference(one, two, (good, weak), most_delta_j=0.4).interval == found.interval
    assert corrected_difference(one, two, (none, none)).reason == "J is 0.10 and 0.10; a difference needs 0.3 for both"


def test_one_calibration_for_two_models_would_turn_the_winner_round() -> None:
    """The judge reads model a too well and b too badly (2605.06939); the truth is 0.5 against 0.6."""
    rng = np.random.default_rng(3)
    data = {}
    for name, rate, sensitivity, specificity in (("a", 0.5, 0.95, 0.6), ("b", 0.6, 0.6, 0.95)):
        y, f = draw(rng, 400, rate, sensitivity, specificity)
        data[name] = (y, f, draw(rng, 4000, rate, sensitivity, specificity)[1])
    raw = {name: float(rest.mean()) for name, (_, _, rest) in data.items()}
    assert raw["a"] > raw["b"]
    pooled = judge_accuracy(*(np.concatenate([data["a"][part], data["b"][part]]) for part in (0, 1)))
    shared = {name: rogan_gladen(rest, pooled).interval for name, (_, _, rest) in data.items()}
    own = {name: rogan_gladen(rest, judge_accuracy(y, f)).interval for name, (y, f, rest) in data.items()}
    assert shared["a"] is not None and shared["b"] is not None  # noqa: PT018
    assert own["a"] is not None and own["b"] is not None  # noqa: PT018
    assert shared["a"].estimate > shared["b"].estimate
    assert own["a"].estimate < own["b"].estimate


def test_what_is_no_score_is_refused() -> None:
    with pytest.raises(ValueError, match="leave out what was not judged"):
        ppi_mean([1, 0], [1, float("nan")], [1])
    with pytest.raises(ValueError, match="2 labels but 1 verdicts"):
        judge_accuracy([1, 0], [1])
