"""Kappa and alpha against scikit-learn, published tables and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.stats import cohen_kappa, krippendorff_alpha

# Krippendorff's own example (2011, "Computing Krippendorff's alpha-reliability"): 4 observers, 12 units.
OBSERVERS = [
    "12332141 2...".replace(" ", ""),
    "1233224125.3",
    ".33323422 51.".replace(" ", ""),
    "1233244125 1.".replace(" ", ""),
]
UNITS = [[None if value == "." else int(value) for value in unit] for unit in zip(*OBSERVERS, strict=True)]


def test_krippendorffs_own_example() -> None:
    assert round(krippendorff_alpha(UNITS, resamples=50).estimate, 3) == 0.743
    assert round(krippendorff_alpha(UNITS, scale="ordinal", resamples=50).estimate, 3) == 0.815


def test_cohen_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 0.7, p_e = 0.5·0.6 + 0.5·0.4 = 0.5, κ = 0.4.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    kappa = cohen_kappa(first, second)
    assert kappa.estimate == pytest.approx(0.4)
    # The large-sample standard error of this table is 0.127 (Fleiss, Cohen and Everitt 1969).
    assert (kappa.high - kappa.low) / (2 * 1.96) == pytest.approx(0.127, abs=0.012)


@settings(deadline=None)  # the first example imports the oracle
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_cohen_equals_scikit_learn(rows: list[tuple[int, int]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = zip(*rows, strict=True)
    kappa = cohen_kappa(first, second, resamples=20).estimate
    if len(set(first) | set(second)) == 1:
        assert math.isnan(kappa)
    else:
        assert kappa == pytest.approx(metrics.cohen_kappa_score(first, second))


def test_perfect_agreement_and_its_opposite() -> None:
    assert krippendorff_alpha([["A", "A"], ["B", "B"], ["tie", "tie"]], resamples=50).estimate == 1
    assert krippendorff_alpha([["A", "B"]] * 10, resamples=50).estimate < 0


def test_random_raters_agree_by_chance_only() -> None:
    rng = np.random.default_rng(0)
    ratings = rng.integers(0, 3, (400, 3)).tolist()
    alpha = krippendorff_alpha(ratings, resamples=300)
    assert 0 in alpha
    assert abs(alpha.estimate) < 0.08


def test_items_with_one_rating_are_left_out() -> None:
    full = [["A", "A"], ["B", "A"], ["B", "B"]]
    assert krippendorff_alpha([*full, ["A", None]]) == krippendorff_alpha(full)
    with pytest.raises(ValueError, match="two ratings"):
        krippendorff_alpha([["A", None]])


def test_without_variation_nothing_is_claimed() -> None:
    alpha = krippendorff_alpha([["A", "A"]] * 5)
    assert math.isnan(alpha.estimate)
    assert (alpha.low, alpha.high) == (-1, 1)


def test_raters_must_have_seen_the_same_items() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        cohen_kappa(["A", "B"], ["A"])
