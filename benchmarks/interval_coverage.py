"""How often the intervals of `palate.stats` contain the true value: 30, 100 and 805 independent units, also clustered.

    python benchmarks/interval_coverage.py [--rounds 4000] [--only NAME]     prints the table
    python benchmarks/interval_coverage.py --write                           also writes it into docs/statistics.md

Each case draws data whose true value is known, or is computed once from a sample of 100,000 units or more.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import special

from palate.stats import (
    Interval,
    bootstrap_interval,
    bradley_terry,
    calibration,
    cluster_mean_interval,
    cohen_kappa,
    corrected_difference,
    fleiss_kappa,
    judge_accuracy,
    krippendorff_alpha,
    length_controlled,
    mean_interval,
    newcombe_paired,
    paired_difference,
    percent_agreement,
    position_report,
    ppi_mean,
    rate_interval,
    rogan_gladen,
    sequential_difference,
    sequential_interval,
    wilson,
    win_rate,
)

SIZES = (30, 100, 805)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- coverage -->", "<!-- end of coverage -->"
_LARGE = 100_000
_RESAMPLES = 500
Rng = np.random.Generator
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Case:
    """An interval function and the data it is tried on.

    Attributes:
        name: of the function.
        data: what is drawn, for the table.
        draw: the interval of data of n units; None if the function has refused to give one.
        truth: the value that it should contain.
        slow: by how much the number of samples is divided, for intervals that take milliseconds.
        at_least: whether the level is a lower bound by design.
    """

    name: str
    data: str
    draw: Callable[[Rng, int], Interval | None]
    truth: Callable[[], float]
    slow: int = 1
    at_least: bool = False


def coverage(case: Case, n: int, rounds: int, seed: int = 0) -> tuple[float, int]:
    """The share of intervals that contain the true value, and the number of intervals."""
    rng, truth = np.random.default_rng([seed, n]), case.truth()
    found = [interval for _ in range(rounds) if (interval := case.draw(rng, n)) is not None]
    return sum(truth in interval for interval in found) / len(found), len(found)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def both_orders(rng: Rng, n: int, *, bias: float = 0.4) -> tuple[Floats, Floats]:
    """Verdicts with the candidate first and second: item effects, a preference for the first slot, 15 % ties."""
    item = rng.normal(0.3, 1, n)
    return tuple(  # type: ignore[return-value]
        np.where(rng.random(n) < 0.15, 0.5, rng.random(n) < sigmoid(item + sign * bias)) for sign in (1, -1)
    )


@cache
def in_large(of: str) -> float:
    """True values that have no closed form, from a large sample."""
    rng = np.random.default_rng(1)
    if of in ("win", "decided", "consistency"):
        first, second = both_orders(rng, 5 * _LARGE)
        score = (first + second) / 2
        return float({"win": score.mean(), "decided": (score[score != 0.5] > 0.5).mean(),
                      "consistency": (first == second).mean()}[of])  # fmt: skip
    if of == "length":
        rate = length_rows(rng, _LARGE, 1).rate
    elif of == "rating":
        rate = rated(rng, _LARGE)
    else:
        raise ValueError(of)
    assert rate is not None
    return rate.estimate


def length_rows(rng: Rng, n: int, per_cluster: int) -> object:
    """A length-controlled rate: n clusters of items with a common effect, a judge that likes length and first slots."""
    items = n * per_cluster
    gaps = rng.normal(40, 300, items)
    effect = np.repeat(rng.normal(0, 0.7, n), per_cluster)
    orders, d = np.repeat([1.0, -1.0], items), np.tile(gaps, 2)
    logits = 0.3 + 0.4 * orders + np.tanh(d / 300) + np.tile(effect, 2)
    verdicts = (rng.random(2 * items) < sigmoid(logits)).astype(float)
    return length_controlled(verdicts, orders, d, np.tile(np.repeat(np.arange(n), per_cluster), 2).tolist())


def rated(rng: Rng, n: int) -> Interval | None:
    """The rating of the second of four models: each prompt has two random pairs, in both orders."""
    strengths = np.array([0.0, 0.4, 0.7, -0.3])
    liked = rng.normal(0, 0.6, (n, 4))
    order = np.argsort(rng.random((n, 4)), axis=1)
    pairs = np.concatenate([order[:, :2], order[:, 2:], order[:, [1, 0]], order[:, [3, 2]]])
    prompts = np.tile(np.arange(n), 4)
    values = strengths + liked
    logits = values[prompts, pairs[:, 0]] - values[prompts, pairs[:, 1]] + 0.3
    scores = np.where(rng.random(4 * n) < 0.1, 0.5, rng.random(4 * n) < sigmoid(logits))
    names = np.array(["a", "b", "c", "d"])
    first, second = names[pairs[:, 0]].tolist(), names[pairs[:, 1]].tolist()
    found = bradley_terry(first, second, scores, prompts.tolist(), anchor="a").ratings
    return next((one.rating for one in found if one.model == "b"), None)


def clustered(rng: Rng, n: int, rate: float, *, size: int = 4, correlation: float = 0.5) -> tuple[Floats, list[int]]:
    """0/1 items, `size` for each of n clusters, beta-binomial."""
    spread = 1 / correlation - 1
    tendency = np.repeat(rng.beta(rate * spread, (1 - rate) * spread, n), size)
    return (rng.random(n * size) < tendency).astype(float), np.repeat(np.arange(n), size).tolist()


def judged(rng: Rng, y: Floats, sensitivity: float = 0.85, specificity: float = 0.75) -> Floats:
    return np.where(y == 1, rng.random(len(y)) < sensitivity, rng.random(len(y)) > specificity).astype(float)


def labels(rng: Rng, n: int, rate: float = 0.55) -> Floats:
    return (rng.random(n) < rate).astype(float)


def ppi(rng: Rng, n: int, *, size: int = 1) -> Interval | None:
    if size == 1:
        y, rest = labels(rng, n), labels(rng, 10 * n)
        return ppi_mean(y, judged(rng, y), judged(rng, rest)).interval
    (y, one), (rest, other) = clustered(rng, n, 0.55, size=size), clustered(rng, 10 * n, 0.55, size=size)
    groups = (one, [number + n for number in other])
    return ppi_mean(y, judged(rng, y), judged(rng, rest), clusters=groups).interval


def corrected(rng: Rng, n: int, rate: float) -> tuple[object, object]:
    y = labels(rng, n)
    accuracy = judge_accuracy(y, judged(rng, y))
    return rogan_gladen(judged(rng, labels(rng, 10 * n, rate)), accuracy), accuracy


def difference(rng: Rng, n: int) -> Interval | None:
    """Of PPI++ rates of two models, as `palate judge calibrate` makes it."""
    models = []
    for rate in (0.6, 0.5):
        y, rest = labels(rng, n, rate), labels(rng, 10 * n, rate)
        f = judged(rng, y)
        models.append((ppi_mean(y, f, judged(rng, rest)), judge_accuracy(y, f)))
    (one, first), (two, second) = models
    return corrected_difference(one, two, (first, second)).interval


RATERS = (0.8, 0.75, 0.7)
"""Probability that a rater gives the true label of three; otherwise one of the other two."""


def ratings(rng: Rng, n: int, raters: int) -> list[list[int]]:
    truth = rng.integers(0, 3, n)
    columns = [np.where(rng.random(n) < right, truth, (truth + rng.integers(1, 3, n)) % 3) for right in RATERS[:raters]]
    return [list(map(int, row)) for row in zip(*columns, strict=True)]


def agree(a: float, b: float) -> float:
    """Probability that two raters agree: both right, or both wrong with the same of two labels."""
    return a * b + (1 - a) * (1 - b) / 2


def mean_agreement() -> float:
    pairs = ((0, 1), (0, 2), (1, 2))
    return sum(agree(RATERS[a], RATERS[b]) for a, b in pairs) / 3


def beyond_chance(share: float) -> float:
    """Kappa and alpha of three labels that are equally frequent."""
    return (share - 1 / 3) / (1 - 1 / 3)


def copies(rows: list[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Each item three times, as a cluster."""
    return [row for row in rows for _ in range(3)], [number for number in range(len(rows)) for _ in range(3)]


def repeated(rng: Rng, n: int, of: str) -> Interval | None:
    rows, clusters = copies(ratings(rng, n, 2 if of == "kappa" else 3))
    if of == "share":
        return percent_agreement(rows, clusters=clusters).interval
    if of == "kappa":
        first, second = zip(*rows, strict=True)
        return cohen_kappa(first, second, clusters=clusters, resamples=_RESAMPLES).interval
    return krippendorff_alpha(rows, clusters=clusters, resamples=_RESAMPLES).interval


def kappa(rng: Rng, n: int) -> Interval | None:
    first, second = zip(*ratings(rng, n, 2), strict=True)
    return cohen_kappa(first, second, resamples=_RESAMPLES).interval


CELLS = (0.5, 0.08, 0.12, 0.3)
"""Both right, only before, only after, neither."""


def before_after(rng: Rng, n: int) -> tuple[Floats, Floats]:
    cell = rng.choice(4, n, p=CELLS)
    return np.isin(cell, (0, 1)).astype(float), np.isin(cell, (0, 2)).astype(float)


def grades(rng: Rng, n: int) -> tuple[Floats, Floats]:
    """Grades of 1 to 10 before and after, of items of different difficulty; the gain is skewed."""
    level = rng.normal(6, 1.5, n)
    return level + rng.normal(0, 0.8, n), level + 0.2 + rng.exponential(1, n) - 1 + rng.normal(0, 0.5, n)


def paired_clusters(rng: Rng, n: int) -> Interval:
    shift = np.repeat(rng.normal(0.2, 0.5, n), 4)
    before = rng.normal(6, 1.5, 4 * n)
    after = before + shift + rng.normal(0, 1, 4 * n)
    groups = np.repeat(np.arange(n), 4).tolist()
    return paired_difference(before, after, clusters=groups, resample=False).difference


def uneven(rng: Rng, n: int) -> Interval:
    sizes = rng.integers(1, 8, n)
    values = np.repeat(rng.normal(1, 1, n), sizes) + rng.normal(0, 1, sizes.sum())
    return cluster_mean_interval(values, np.repeat(np.arange(n), sizes).tolist())


def brier(rng: Rng, n: int) -> Interval:
    p = rng.uniform(0.5, 1, n)
    return calibration(p, rng.random(n) < p, low=0.5).brier


def of_orders(rng: Rng, n: int, of: str) -> Interval | None:
    first, second = both_orders(rng, n)
    if of == "consistency":
        return position_report(first, second).consistency
    found = win_rate(first, second)
    return found.rate if of == "win" else found.decided


def of_clusters(rng: Rng, n: int, rate: float, correlation: float) -> Interval:
    scores, groups = clustered(rng, n, rate, correlation=correlation)
    return rate_interval(scores, clusters=groups)


def newcombe(rng: Rng, n: int) -> Interval:
    return newcombe_paired(*map(int, rng.multinomial(n, CELLS)))


CASES = (
    Case("wilson", "rate 0.55", lambda g, n: wilson(g.binomial(n, 0.55), n), lambda: 0.55),
    Case("wilson", "rate 0.8", lambda g, n: wilson(g.binomial(n, 0.8), n), lambda: 0.8),
    Case("rate_interval", "clusters of 4, correlation 0.5", lambda g, n: of_clusters(g, n, 0.6, 0.5), lambda: 0.6),
    Case("rate_interval", "clusters of 4, correlation 0.8", lambda g, n: of_clusters(g, n, 0.7, 0.8), lambda: 0.7),
    Case("win_rate, rate", "both orders, ties", lambda g, n: of_orders(g, n, "win"), lambda: in_large("win")),
    Case("win_rate, decided", "both orders, ties", lambda g, n: of_orders(g, n, "decided"),
         lambda: in_large("decided")),
    Case("position_report", "consistency", lambda g, n: of_orders(g, n, "consistency"),
         lambda: in_large("consistency")),
    Case("length_controlled", "both orders", lambda g, n: length_rows(g, n, 1).rate,
         lambda: in_large("length"), slow=4),
    Case("length_controlled", "clusters of 3", lambda g, n: length_rows(g, n, 3).rate,
         lambda: in_large("length"), slow=4),
    Case("bradley_terry", "4 models, 4 votes a prompt", rated, lambda: in_large("rating"), slow=4),
    Case("mean_interval", "normal", lambda g, n: mean_interval(g.normal(1, 2, n)), lambda: 1.0),
    Case("mean_interval", "exponential", lambda g, n: mean_interval(g.exponential(1, n)), lambda: 1.0),
    Case("cluster_mean_interval", "clusters of 1 to 7", uneven, lambda: 1.0),
    Case("newcombe_paired", "20 % discordant", newcombe, lambda: CELLS[1] - CELLS[2]),
    Case("paired_difference", "0/1", lambda g, n: paired_difference(*before_after(g, n)).difference,
         lambda: CELLS[2] - CELLS[1]),
    Case("paired_difference", "grades", lambda g, n: paired_difference(*grades(g, n), resample=False).difference,
         lambda: 0.2),
    Case("paired_difference", "grades, clusters of 4", paired_clusters, lambda: 0.2),
    Case("bootstrap_interval", "BCa, grades", lambda g, n: bootstrap_interval(np.subtract(*grades(g, n)[::-1]),
         resamples=2 * _RESAMPLES), lambda: 0.2, slow=4),
    Case("ppi_mean", "n labelled, 10 n others", ppi, lambda: 0.55),
    Case("ppi_mean", "clusters of 3", lambda g, n: ppi(g, n, size=3), lambda: 0.55),
    Case("judge_accuracy", "sensitivity", lambda g, n: corrected(g, n, 0.6)[1].sensitivity, lambda: 0.85),
    Case("rogan_gladen", "n labelled, 10 n others", lambda g, n: corrected(g, n, 0.6)[0].interval, lambda: 0.6),
    Case("corrected_difference", "PPI++, n labelled each", difference, lambda: 0.1),
    Case("percent_agreement", "3 raters", lambda g, n: percent_agreement(ratings(g, n, 3)).interval, mean_agreement),
    Case("percent_agreement", "clusters of 3", lambda g, n: repeated(g, n, "share"), mean_agreement),
    Case("cohen_kappa", "3 labels", kappa, lambda: beyond_chance(agree(*RATERS[:2])), slow=4),
    Case("cohen_kappa", "clusters of 3", lambda g, n: repeated(g, n, "kappa"),
         lambda: beyond_chance(agree(*RATERS[:2])), slow=4),
    Case("fleiss_kappa", "3 raters", lambda g, n: fleiss_kappa(ratings(g, n, 3), resamples=_RESAMPLES).interval,
         lambda: beyond_chance(mean_agreement()), slow=8),
    Case("krippendorff_alpha", "3 raters", lambda g, n: krippendorff_alpha(ratings(g, n, 3),
         resamples=_RESAMPLES).interval, lambda: beyond_chance(mean_agreement()), slow=8),
    Case("krippendorff_alpha", "clusters of 3", lambda g, n: repeated(g, n, "alpha"),
         lambda: beyond_chance(mean_agreement()), slow=8),
    # E p(1 − p) = E p − E p² = 3/4 − 7/12 for p uniform in [½, 1].
    Case("calibration, Brier score", "calibrated", brier, lambda: 3 / 4 - 7 / 12),
    Case("sequential_interval", "at every n up to this", lambda g, n: sequential_interval(of_scores(g, n)),
         lambda: 0.55, at_least=True),
    Case("sequential_difference", "two rates, at every n up to this",
         lambda g, n: sequential_difference(labels(g, n, 0.1), labels(g, n, 0.15)), lambda: 0.05, at_least=True),
)  # fmt: skip


def of_scores(rng: Rng, n: int) -> Floats:
    return rng.choice([0.0, 0.5, 1.0], n, p=[0.35, 0.2, 0.45])


def of_every_rate(n: int) -> tuple[float, float, float]:
    """Exact coverage of `rate_interval` for 0/1 scores of n items: the mean over true rates of 5 to 95 %, least, most.

    Only n + 1 rates can be observed, so that the coverage of any interval jumps with the true rate.
    """
    rates, wins = np.linspace(0.05, 0.95, 901)[:, None], np.arange(n + 1)
    logs = special.gammaln(n + 1) - special.gammaln(wins + 1) - special.gammaln(n - wins + 1)
    weights = np.exp(logs + wins * np.log(rates) + (n - wins) * np.log(1 - rates))
    intervals = [rate_interval([1.0] * won + [0.0] * (n - won)) for won in range(n + 1)]
    inside = np.array([[rate in interval for interval in intervals] for rate in rates[:, 0]])
    found = (weights * inside).sum(axis=1)
    return float(found.mean()), float(found.min()), float(found.max())


def cell(share: float, *, at_least: bool = False) -> str:
    """A coverage in percent; **bold** more than 2 points from 95 %."""
    outside = abs(share - 0.95) > 0.02 and not (at_least and share > 0.95)
    return f"**{100 * share:.1f}**" if outside else f"{100 * share:.1f}"


def table(rounds: int, only: str = "") -> str:
    """The rows, each case with its coverage at every size."""
    lines = ["| interval | data | " + " | ".join(f"n = {n}" for n in SIZES) + " |", "|---|---|" + "---|" * len(SIZES)]
    for case in CASES:
        if only and only not in case.name:
            continue
        shares = (coverage(case, n, max(200, rounds // case.slow))[0] for n in SIZES)
        cells = [cell(share, at_least=case.at_least) for share in shares]
        lines.append(f"| `{case.name}` | {case.data} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr)
    if only in "rate_interval":
        found = [of_every_rate(n) for n in SIZES]
        cells = [f"{cell(mean)} ({100 * least:.1f} to {100 * most:.1f})" for mean, least, most in found]
        lines.append(
            "| `rate_interval` | 0/1, mean over rates of 5 to 95 % (least to most) | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4_000, help="intervals for each number (fewer for slow ones)")
    parser.add_argument("--only", default="", help="part of a function's name")
    parser.add_argument("--write", action="store_true", help="write the table into docs/statistics.md")
    options = parser.parse_args()
    found = table(options.rounds, options.only)
    print(found)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        block = f"{BEGIN}\n{found}\n{END}"
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
