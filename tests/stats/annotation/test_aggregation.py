"""Labels from votes: against crowd-kit, against the figures that Dawid and Skene published, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from palate.stats import dawid_skene, mace, majority

# Dawid and Skene 1979, table 1: 45 patients; observer 1 three times, then observers 2 to 5 once each.
PATIENTS = """
1111111 3334343 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343 1111111
2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222 1111111 1111111
2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432
1111111 1111111 1212111 2322222 1211111 2222222
"""
ANAESTHETISTS = [
    (patient, observer, int(label))
    for patient, row in enumerate(PATIENTS.split(), 1)
    for observer, label in zip((1, 1, 1, 2, 3, 4, 5), row, strict=True)
]


def synthetic(seed: int, *, items: int = 60, accuracies: tuple[float, ...] = (0.9, 0.8, 0.7, 0.4)) -> Any:
    """Votes on three labels, a fifth of them missing, in the sorted order that crowd-kit's code relies on."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, items)
    votes = []
    for item in range(items):
        for annotator, accuracy in enumerate(accuracies):
            if item > 2 and rng.random() < 0.2:
                continue
            label = truth[item] if rng.random() < accuracy else rng.integers(0, 3)
            # The first items show every label in order, so that labels are numbered as they sort.
            votes.append((item, annotator, item if item < 3 else int(label)))
    return votes, [0, 1, 2, *truth[3:].tolist()]


def frame(votes: Any) -> Any:
    return pytest.importorskip("pandas").DataFrame(votes, columns=["task", "worker", "label"])


def oracle() -> Any:
    return pytest.importorskip("crowdkit.aggregation")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
def test_majority_equals_crowd_kit(seed: int) -> None:
    votes, _ = synthetic(seed)
    theirs = oracle().MajorityVote().fit(frame(votes)).probas_
    ours = majority(votes)
    np.testing.assert_allclose(ours.posteriors, theirs.loc[list(ours.items), list(ours.labels)], atol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("iterations", [1, 4, 30])
@pytest.mark.parametrize("seed", range(3))
def test_dawid_skene_equals_crowd_kit(seed: int, iterations: int) -> None:
    votes, _ = synthetic(seed)
    theirs = oracle().DawidSkene(n_iter=iterations, tol=-1e9).fit(frame(votes))
    ours = dawid_skene(votes, iterations=iterations, tolerance=0)
    assert (ours.iterations, ours.converged) == (iterations, False)
    np.testing.assert_allclose(
        ours.posteriors, theirs.probas_.loc[list(ours.items), list(ours.labels)], rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(ours.priors, theirs.priors_.loc[list(ours.labels)], rtol=0, atol=1e-9)


def few_votes(seed: int) -> Any:
    """A small table: few votes on an item, people with one vote, unequal classes, ties of the majority."""
    rng = np.random.default_rng(seed)
    items, people, labels = int(rng.integers(4, 30)), int(rng.integers(2, 6)), int(rng.integers(2, 5))
    share = rng.choice([0.3, 0.6, 1.0])
    votes = []
    for item in range(items):
        truth = rng.integers(0, labels) if rng.random() < 0.6 else 0
        for who in range(people):
            if rng.random() < share:
                votes.append((item, who, int(truth if rng.random() < 0.5 + 0.1 * who else rng.integers(0, labels))))
    return votes


def log_likelihood(votes: Any, priors: dict[Any, float], error: Callable[[Any, Any, Any], float]) -> float:
    """Σ_items log Σ_c p_c·Π_votes π_a(c, l), where `error` is π by annotator, true label and given label."""
    found = 0.0
    for item in dict.fromkeys(item for item, _, _ in votes):
        given = [(who, label) for other, who, label in votes if other == item]
        found += np.log(sum(p * np.prod([error(who, c, label) for who, label in given]) for c, p in priors.items()))
    return float(found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [4, 5, 28])
def test_dawid_skene_goes_on_where_crowd_kit_stops_too_early(seed: int) -> None:
    """With both defaults posteriors differ by 0.1 to 0.8; after the same number of iterations they are equal."""
    votes = few_votes(seed)
    ours, early = dawid_skene(votes), oracle().DawidSkene().fit(frame(votes))
    assert ours.converged
    assert ours.confusion is not None
    items, labels, who_is = list(ours.items), list(ours.labels), ours.annotators.index
    assert np.abs(ours.posteriors - early.probas_.loc[items, labels].to_numpy()).max() > 0.1
    assert len(early.loss_history_) < 6 < ours.iterations
    assert early.loss_history_[-1] < early.loss_history_[-2], "its bound falls, which the bound of EM never does"
    late = oracle().DawidSkene(n_iter=ours.iterations, tol=-1e9).fit(frame(votes))
    np.testing.assert_allclose(ours.posteriors, late.probas_.loc[items, labels], rtol=0, atol=1e-9)
    confusion, priors = ours.confusion, dict(zip(labels, ours.priors.tolist(), strict=True))
    of_ours = log_likelihood(
        votes, priors, lambda a, c, given: confusion[who_is(a), labels.index(c), labels.index(given)]
    )
    of_early, of_late = (
        log_likelihood(votes, dict(found.priors_), lambda a, c, given, found=found: found.errors_.loc[(a, given), c])
        for found in (early, late)
    )
    assert of_ours > of_early + 0.05
    assert of_ours == pytest.approx(of_late, abs=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
def test_mace_equals_crowd_kit(seed: int) -> None:
    """One start: crowd-kit's restarts all begin at the same place."""
    votes, _ = synthetic(seed)
    theirs = oracle().MACE(n_restarts=1, n_iter=20, method="vb", random_state=seed).fit(frame(votes))
    ours = mace(votes, restarts=1, iterations=20, tolerance=0, seed=seed)
    np.testing.assert_allclose(
        ours.posteriors, theirs.probas_.loc[list(ours.items), list(ours.labels)], rtol=0, atol=1e-9
    )
    knowing = theirs.spamming_[:, 1] / theirs.spamming_.sum(axis=1)
    np.testing.assert_allclose([ours.reliability[who] for who in ours.annotators], knowing, rtol=0, atol=1e-9)


def test_dawid_and_skenes_own_example() -> None:
    found = dawid_skene(ANAESTHETISTS)
    assert found.converged
    priors = {label: float(found.priors[number]) for number, label in enumerate(found.labels)}
    # Their table 4 of estimates: p = (0.40, 0.42, 0.11, 0.07).
    assert [round(priors[label], 2) for label in (1, 2, 3, 4)] == [0.40, 0.42, 0.11, 0.07]
    assert found.confusion is not None
    order = [found.labels.index(label) for label in (1, 2, 3, 4)]
    observer = found.confusion[found.annotators.index(1)][np.ix_(order, order)]
    # Their table 3, observer 1.
    assert observer[0].round(2).tolist() == [0.89, 0.11, 0, 0]
    assert observer[1].round(2).tolist() == [0.07, 0.88, 0.05, 0]
    np.testing.assert_allclose(observer.sum(axis=1), 1)
    assert found.winners()[3] == 2, "a patient with 1 1 2, 2, 1, 2, 2"


@pytest.mark.parametrize("aggregate", [dawid_skene, mace])
def test_good_annotators_outvote_bad_ones(aggregate: Any) -> None:
    """Two careful annotators against three who always say the same label: the majority is wrong, the models are not."""
    votes, truth = synthetic(7, items=300, accuracies=(0.95, 0.95, 0.9))
    for item in range(300):
        votes += [(item, f"lazy {number}", 0) for number in range(3)]
    right = [found == truth[item] for item, found in aggregate(votes).winners().items()]
    plain = [found == truth[item] for item, found in majority(votes).winners().items()]
    assert sum(right) / 300 > 0.95
    assert sum(plain) / 300 < 0.6
    reliability = aggregate(votes).reliability
    assert min(reliability[who] for who in range(3)) > 0.8 > max(reliability[f"lazy {number}"] for number in range(3))


def test_a_tie_has_no_winner_and_reliability_is_the_share_of_right_votes() -> None:
    votes = [("a", "x", "L"), ("a", "y", "R"), ("b", "x", "L"), ("b", "y", "L"), ("b", "z", "R")]
    found = majority(votes)
    assert found.winners() == {"a": None, "b": "L"}
    # x: ½ of a, 2/3 of b; y the same; z: 1/3 of b.
    assert found.reliability == pytest.approx({"x": (1 / 2 + 2 / 3) / 2, "y": (1 / 2 + 2 / 3) / 2, "z": 1 / 3})


def test_the_same_votes_give_the_same_result() -> None:
    votes, _ = synthetic(3)
    np.testing.assert_array_equal(mace(votes).posteriors, mace(votes).posteriors)
    assert mace(votes).converged
    assert dawid_skene(votes).posteriors.sum(axis=1) == pytest.approx(np.ones(60))


def test_one_vote_is_enough_and_none_is_not() -> None:
    for aggregate in (majority, dawid_skene, mace):
        assert aggregate([("a", "x", "L")]).winners() == {"a": "L"}
        with pytest.raises(ValueError, match="no vote"):
            aggregate([])
