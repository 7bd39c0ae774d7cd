"""Percent, kappa and alpha against scikit-learn, statsmodels, published tables and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from palate.stats import Agreement, cohen_kappa, fleiss_kappa, krippendorff_alpha, percent_agreement, rate_interval

# Krippendorff's own example (2011, "Computing Krippendorff's alpha-reliability"): 4 observers, 12 units.
OBSERVERS = [
    "12332141 2...".replace(" ", ""),
    "1233224125.3",
    ".33323422 51.".replace(" ", ""),
    "1233244125 1.".replace(" ", ""),
]
UNITS = [[None if value == "." else int(value) for value in unit] for unit in zip(*OBSERVERS, strict=True)]


def test_krippendorffs_own_example() -> None:
    assert krippendorff_alpha(UNITS, resamples=50).estimate == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(UNITS, scale="ordinal", resamples=50).estimate == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(UNITS, scale="interval", resamples=50).estimate == pytest.approx(0.849, abs=5e-4)


def test_cohen_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 0.7, p_e = 0.5·0.6 + 0.5·0.4 = 0.5, κ = 0.4.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    kappa = cohen_kappa(first, second).interval
    assert kappa is not None
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
        assert kappa is None
    else:
        assert kappa == pytest.approx(metrics.cohen_kappa_score(first, second), abs=1e-9)


def test_perfect_agreement_and_its_opposite() -> None:
    assert krippendorff_alpha([["A", "A"], ["B", "B"], ["tie", "tie"]], resamples=50).estimate == 1
    alpha = krippendorff_alpha([["A", "B"]] * 10, resamples=50).estimate
    assert alpha == pytest.approx(-0.9)  # n = 20 ratings: D_e = 2·10·10 / (20·19) = 10/19, D_o = 1


def test_perfect_agreement_has_wilsons_interval_not_one_of_no_width() -> None:
    kappa = cohen_kappa(["A", "B"] * 5, ["A", "B"] * 5).interval
    assert kappa is not None
    # p_e = 1/2, Wilson's lower end of 10 of 10 is 10 / (10 + z²): κ = (p − 1/2) / (1/2).
    assert (kappa.low, kappa.estimate, kappa.high) == pytest.approx((2 * 10 / (10 + 3.841459) - 1, 1, 1), abs=1e-6)
    alpha = krippendorff_alpha([["A", "A"], ["B", "B"]] * 5).interval
    assert alpha is not None
    # D_e = 2·10·10 / (20·19) = 10/19.
    assert alpha.low == pytest.approx(1 - 3.841459 / (10 + 3.841459) * 19 / 10, abs=1e-6)
    assert (alpha.estimate, alpha.high, alpha.n) == (1, 1, 10)


@pytest.mark.parametrize("items", [1, 2, 30])
def test_no_interval_has_no_width(items: int) -> None:
    """One rater of one label makes κ 0 in every resample; that says little about κ."""
    for second in (["A"] * items, (["A", "B"] * items)[:items]):
        for found in (
            cohen_kappa(["B"] * items, second),
            krippendorff_alpha([[one, two] for one, two in zip(["B"] * items, second, strict=True)]),
        ):
            assert found.interval is not None
            assert found.interval.high - found.interval.low > 0.05


def test_random_raters_agree_by_chance_only() -> None:
    rng = np.random.default_rng(0)
    ratings = rng.integers(0, 3, (400, 3)).tolist()
    alpha = krippendorff_alpha(ratings, resamples=300).interval
    assert alpha is not None
    assert 0 in alpha
    assert abs(alpha.estimate) < 0.08


def test_items_with_one_rating_are_left_out() -> None:
    full = [["A", "A"], ["B", "A"], ["B", "B"]]
    assert krippendorff_alpha([*full, ["A", None]]) == krippendorff_alpha(full)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (krippendorff_alpha([["A", "A"]] * 5), "all ratings are of one category"),
        (krippendorff_alpha([[3, 3], [3, None, 3]], scale="ordinal"), "all ratings are of one category"),
        (krippendorff_alpha([["A", None], [None, "B"]]), "no item has two ratings"),
        (krippendorff_alpha([]), "no item has two ratings"),
        (cohen_kappa(["A"] * 4, ["A"] * 4), "all ratings are of one category"),
        (cohen_kappa([], []), "no item has two ratings"),
    ],
)
def test_what_is_undefined_is_none_with_its_reason(found: Agreement, reason: str) -> None:
    assert (found.interval, found.estimate) == (None, None)
    assert str(found) == f"undefined: {reason}"


def test_agreement_as_a_person_reads_it() -> None:
    assert str(cohen_kappa(["A", "B"] * 5, ["A", "B"] * 5)) == "1.00 (0.44 to 1.00, rough: n = 10)"


def test_raters_must_have_seen_the_same_items() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        cohen_kappa(["A", "B"], ["A"])


# Fleiss 1971, table 1: 30 patients, 6 psychiatrists each, and how many gave each of 5 diagnoses.
PATIENTS = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""
DIAGNOSES = [[k for k, count in enumerate(row) for _ in range(int(count))] for row in PATIENTS.split()]


def test_fleiss_own_example() -> None:
    # His table 1 and page 380: P = 0.555, P_e = 0.220, κ = 0.430.
    assert percent_agreement(DIAGNOSES).estimate == pytest.approx(0.555, abs=1e-3)
    assert fleiss_kappa(DIAGNOSES, resamples=50).estimate == pytest.approx(0.430, abs=1e-3)


@settings(deadline=None)
@given(st.integers(2, 5).flatmap(lambda k: st.lists(st.lists(st.integers(0, 3), min_size=k, max_size=k), min_size=2)))
def test_fleiss_equals_statsmodels(rows: list[list[int]]) -> None:
    rater = pytest.importorskip("statsmodels.stats.inter_rater")
    kappa = fleiss_kappa(rows, resamples=20).estimate
    if len({value for row in rows for value in row}) == 1:
        assert kappa is None
    else:
        table, _ = rater.aggregate_raters(np.array(rows))
        assert kappa == pytest.approx(rater.fleiss_kappa(table), abs=1e-9)


def test_fleiss_needs_as_many_ratings_of_each_item() -> None:
    found = fleiss_kappa([["A", "B"], ["A", "A", "A"]])
    assert (found.interval, found.reason) == (None, "items have 2 to 3 ratings; Fleiss's kappa needs equally many")
    # A missing entry is no rating.
    assert fleiss_kappa([["A", "B", None], [None, "A", "A"]], resamples=20).estimate == pytest.approx(-1 / 3)
    assert fleiss_kappa([["A", "A"]] * 3).reason == "all ratings are of one category"
    assert fleiss_kappa([["A"], ["B"]]).reason == "no item has two ratings"
    assert percent_agreement([["A"], [None]]).reason == "no item has two ratings"


def test_percent_agreement_by_hand() -> None:
    # Pairs that agree: 3 of 3, 1 of 3, 0 of 1; the item with one rating is ignored.
    found = percent_agreement([["A", "A", "A"], ["A", "A", "B"], ["A", None, "B"], ["A"]]).interval
    assert found is not None
    assert (found.estimate, found.n) == (pytest.approx((1 + 1 / 3 + 0) / 3), 3)
    assert found == rate_interval([1, 1 / 3, 0])


def test_pairs_of_one_prompt_are_one_unit() -> None:
    """Every item ten times: the same estimate, and with clusters nearly the same interval, not one of a third."""
    rng = np.random.default_rng(1)
    first = rng.integers(0, 2, 40).tolist()
    second = [value if rng.random() < 0.8 else 1 - value for value in first]
    prompts = [prompt for prompt in range(40) for _ in range(10)]
    many = [[a, b] for a, b in zip(first, second) for _ in range(10)]
    plain = cohen_kappa(first, second).interval
    repeated = cohen_kappa([row[0] for row in many], [row[1] for row in many], clusters=prompts).interval
    careless = cohen_kappa([row[0] for row in many], [row[1] for row in many]).interval
    assert plain is not None
    assert repeated is not None
    assert careless is not None
    assert repeated.estimate == pytest.approx(plain.estimate)
    assert (repeated.n, careless.n) == (40, 400)
    assert repeated.high - repeated.low == pytest.approx(plain.high - plain.low, rel=0.1)
    assert careless.high - careless.low < 0.5 * (plain.high - plain.low)
    for found in (percent_agreement(many, clusters=prompts), krippendorff_alpha(many, clusters=prompts, resamples=50)):
        assert found.interval is not None
        assert found.interval.n == 40
    with pytest.raises(ValueError, match="400 items but 40 cluster names"):
        fleiss_kappa(many, clusters=range(40))


@settings(deadline=None)  # the first example imports the oracle
@given(st.lists(st.lists(st.sampled_from([0, 1, 2, None]), min_size=3, max_size=3), min_size=3, max_size=15))
def test_krippendorff_equals_evalica(rows: list[list[int | None]]) -> None:
    evalica, pandas = pytest.importorskip("evalica"), pytest.importorskip("pandas")
    found = krippendorff_alpha(rows, resamples=50)
    assume(found.interval is not None)
    assert found.estimate == pytest.approx(evalica.alpha(pandas.DataFrame(rows).T, "nominal").alpha, abs=1e-9)
