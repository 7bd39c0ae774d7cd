"""Labels of items from the votes of several annotators: majority, Dawid–Skene and MACE, each by its own EM."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from palate.stats.intervals import numbered

LabelVote: TypeAlias = tuple[Hashable, Hashable, Hashable]
"""(item, annotator, label). An annotator may vote on some items only, and more than once on an item."""
Floats: TypeAlias = npt.NDArray[np.float64]

_FLOOR = 1e-10
"""Smallest probability of a label that an annotator gave at least once, so that no item becomes impossible."""


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The labels of items, as votes tell them.

    Attributes:
        items, annotators, labels: in the order of their first vote.
        posteriors: [items, labels] probability of each label, by votes and model; each row sums to 1.
        reliability: per annotator; `majority` and `dawid_skene`: the expected share of right votes among the
            annotator's own; `mace`: the probability that a vote was not a guess.
        priors: [labels] share of each label among the items.
        confusion: [annotators, true label, given label] of `dawid_skene`; None for the others.
        iterations: of the EM algorithm; 0 for `majority`.
        converged: whether no posterior moved by the tolerance or more in the last iteration.
    """

    items: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    labels: tuple[Hashable, ...]
    posteriors: Floats
    reliability: dict[Hashable, float]
    priors: Floats
    confusion: Floats | None
    iterations: int
    converged: bool

    def winners(self) -> dict[Hashable, Hashable | None]:
        """The most probable label of each item; None where two or more labels are equally probable."""
        found: dict[Hashable, Hashable | None] = {}
        for item, row in zip(self.items, self.posteriors, strict=True):
            best = np.flatnonzero(row >= row.max() - 1e-9)
            found[item] = self.labels[int(best[0])] if len(best) == 1 else None
        return found


def majority(votes: Sequence[LabelVote]) -> Aggregated:
    """The share of each label among an item's votes; a tie has no winner."""
    coded = _Coded(votes)
    shares = coded.shares()
    return coded.result(shares, coded.expected_right(shares), None, 0, True)


def dawid_skene(votes: Sequence[LabelVote], *, iterations: int = 1_000, tolerance: float = 1e-6) -> Aggregated:
    """Maximum likelihood of the labels and of each annotator's error rates (Dawid and Skene 1979).

    Model: the true label of an item is c with probability p_c, and annotator a then gives label l with probability
    π_a(c, l), independently of the others. EM starts from the shares of votes, and alternates
    p_c = mean_i T_ic, π_a(c, l) ∝ Σ_i T_ic·n_ial with T_ic ∝ p_c·Π_a,l π_a(c, l)^n_ial.

    Args:
        iterations: largest number of iterations.
        tolerance: EM ends when no posterior moves by it or more; 0 runs all iterations.

    The likelihood has several maxima; the one found is that near the majority. Posteriors may need hundreds of
    iterations where there are few votes. crowd-kit does the same steps, but ends when its lower bound of the likelihood
    rises by less than 1e-5 a vote, and counts the prior once for each vote in it instead of once for each item. That
    bound can fall, so that crowd-kit ends after a few iterations, at a lower likelihood and other posteriors.
    """
    coded = _Coded(votes)
    given = np.zeros((len(coded.annotators), len(coded.labels)))
    np.add.at(given, (coded.annotator, coded.label), 1.0)
    confusion = np.empty(0)

    def step(posteriors: Floats) -> Floats:
        nonlocal confusion
        # [annotators, given, true]. A label that an annotator never gave keeps probability 0.
        counts = np.zeros((*given.shape, given.shape[1]))
        np.add.at(counts, (coded.annotator, coded.label), posteriors[coded.item])
        counts = np.where(given[:, :, None] > 0, np.maximum(counts, _FLOOR), 0.0)
        confusion = counts / counts.sum(axis=1, keepdims=True)
        logs = np.log(np.maximum(posteriors.mean(axis=0), _FLOOR)) + np.zeros_like(posteriors)
        np.add.at(logs, coded.item, np.log(confusion[coded.annotator, coded.label]))
        return np.asarray(special.softmax(logs, axis=1))

    posteriors, done, converged = _until_stable(step, coded.shares(), iterations, tolerance)
    return coded.result(posteriors, coded.expected_right(posteriors), confusion.transpose(0, 2, 1), done, converged)


def mace(
    votes: Sequence[LabelVote],
    *,
    restarts: int = 10,
    iterations: int = 500,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Aggregated:
    """Labels and the competence of annotators, who know the label or guess (MACE, Hovy et al. 2013, N13-1132).

    Model: labels are equally probable; annotator a knows an item's label with probability θ_a and gives it, or else
    guesses label l with probability ξ_a(l). Estimated by variational Bayes with the paper's priors, Beta(½, ½) of θ and
    Dirichlet(10) of ξ.

    Args:
        votes: as for `dawid_skene`.
        restarts: number of random starts; the one with the largest likelihood is taken.
        iterations, tolerance: as for `dawid_skene`.
        seed: of the starts; start r uses seed + r.
    """
    coded = _Coded(votes)
    found = [_mace_from(coded, iterations, tolerance, seed + start) for start in range(max(1, restarts))]
    return max(found, key=lambda one: one[0])[1]


def _mace_from(coded: _Coded, iterations: int, tolerance: float, seed: int) -> tuple[float, Aggregated]:
    """The likelihood and the labels of one run of MACE from one start."""
    annotators, labels = len(coded.annotators), len(coded.labels)
    # [annotators, (guess, know)] and [annotators, labels]; Near the uniform distribution, but not on it.
    mode = 1 + 1.5 * np.random.RandomState(seed).random_sample((annotators, 2))
    guess = 1 + 1.5 * np.random.RandomState(seed).random_sample((annotators, labels))
    mode, guess = mode / mode.sum(axis=1, keepdims=True), guess / guess.sum(axis=1, keepdims=True)
    likelihood = 0.0
    right = np.eye(labels)[coded.label]  # [votes, labels] 1 if the vote is that label

    def expect() -> tuple[Floats, Floats]:
        """Posteriors [items, labels], and the probability of each vote that it was a guess [votes]."""
        nonlocal likelihood
        by_guess = (mode[coded.annotator, 0] * guess[coded.annotator, coded.label])[:, None]
        given = by_guess + mode[coded.annotator, 1][:, None] * right
        logs = np.full((len(coded.items), labels), -np.log(labels))
        np.add.at(logs, coded.item, np.log(given))
        likelihood = float(special.logsumexp(logs, axis=1).sum())
        posteriors = np.asarray(special.softmax(logs, axis=1))
        return posteriors, np.asarray((posteriors[coded.item] * by_guess / given).sum(axis=1))

    posteriors, guessed = expect()

    def step(_: Floats) -> Floats:
        nonlocal mode, guess, guessed
        modes, guesses = np.zeros_like(mode), np.zeros_like(guess)
        np.add.at(modes, coded.annotator, np.stack([guessed, 1 - guessed], axis=1))
        np.add.at(guesses, (coded.annotator, coded.label), guessed)
        mode, guess = _digamma_shares(modes + 0.5), _digamma_shares(guesses + 10.0)
        found, guessed = expect()
        return found

    posteriors, done, converged = _until_stable(step, posteriors, iterations, tolerance)
    knowing = mode[:, 1] / mode.sum(axis=1)  # the variational shares sum to less than 1
    knows = dict(zip(coded.annotators, knowing.tolist(), strict=True))
    return likelihood, coded.result(posteriors, knows, None, done, converged)


def _digamma_shares(counts: Floats) -> Floats:
    """[annotators, k] exp(E[log share]) under a Dirichlet posterior with these counts."""
    return np.asarray(np.exp(special.digamma(counts) - special.digamma(counts.sum(axis=1, keepdims=True))))


def _until_stable(
    step: Callable[[Floats], Floats], posteriors: Floats, iterations: int, tolerance: float
) -> tuple[Floats, int, bool]:
    """The posteriors after repeated steps, the number of steps, and whether they stopped moving."""
    for done in range(1, iterations + 1):
        before, posteriors = posteriors, step(posteriors)
        if float(np.abs(posteriors - before).max()) < tolerance:
            return posteriors, done, True
    return posteriors, iterations, False


class _Coded:
    """Votes as arrays of numbers: `item`, `annotator` and `label` [votes] into the tuples of names."""

    def __init__(self, votes: Sequence[LabelVote]) -> None:
        if not votes:
            raise ValueError("there is no vote to aggregate")
        columns = [(tuple(dict.fromkeys(column)), numbered(column)) for column in zip(*votes, strict=True)]
        (self.items, self.item), (self.annotators, self.annotator), (self.labels, self.label) = columns

    def shares(self) -> Floats:
        """[items, labels] Share of each label among an item's votes."""
        counts = np.zeros((len(self.items), len(self.labels)))
        np.add.at(counts, (self.item, self.label), 1.0)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def expected_right(self, posteriors: Floats) -> dict[Hashable, float]:
        """Per annotator the mean probability of the labels that the annotator gave."""
        right = np.bincount(self.annotator, weights=posteriors[self.item, self.label])
        votes = np.bincount(self.annotator)
        return {name: float(right[number] / votes[number]) for number, name in enumerate(self.annotators)}

    def result(
        self,
        posteriors: Floats,
        reliability: dict[Hashable, float],
        confusion: Floats | None,
        iterations: int,
        converged: bool,
    ) -> Aggregated:
        names = (self.items, self.annotators, self.labels)
        priors = posteriors.mean(axis=0)
        return Aggregated(*names, posteriors, reliability, priors, confusion, iterations, converged)
