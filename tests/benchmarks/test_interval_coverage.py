"""The intervals of `palate.stats` contain the true value about as often as they say; the script has more samples."""

from __future__ import annotations

import inspect
import math
import re

import pytest
from interval_coverage import CASES, Case, coverage, of_every_rate

import palate.stats


@pytest.mark.parametrize("case", CASES, ids=[f"{case.name}: {case.data}" for case in CASES])
def test_nominal_95_percent(case: Case) -> None:
    """100 units; 2.5 points beside sampling error of 3 standard errors (2 points, and what small samples cost)."""
    rounds = 40 if case.slow > 1 else 200
    share, count = coverage(case, 100, rounds, seed=5)
    # A difference is refused where the judge is found to be too weak, or to treat the two models differently.
    assert count == rounds or (case.name == "corrected_difference" and count > 0.8 * rounds)
    slack = 0.025 + 3 * math.sqrt(0.95 * 0.05 / rounds)
    assert share >= 0.95 - slack
    assert case.at_least or share <= min(0.999 if rounds > 100 else 1, 0.95 + slack)


@pytest.mark.parametrize("n", [30, 100])
def test_rates_of_all_sizes(n: int) -> None:
    mean, least, most = of_every_rate(n)
    assert 0.93 <= mean <= 0.97
    assert 0.9 <= least < mean < most <= 0.99


def test_every_interval_of_the_package_is_in_the_table() -> None:
    """Functions that return an Interval, or a result with one, by name."""
    tried = {re.split(r"\W", case.name)[0] for case in CASES}
    plain = {name for name, value in vars(palate.stats).items() if inspect.isfunction(value)}
    returns = {name: str(getattr(palate.stats, name).__annotations__.get("return", "")) for name in plain}
    with_interval = {
        name
        for name, kind in returns.items()
        if kind == "Interval"
        or (hasattr(palate.stats, kind) and "Interval" in str(getattr(palate.stats, kind).__annotations__))
    }
    assert {"bradley_terry", "wilson", "win_rate", "ppi_mean"} <= with_interval
    assert with_interval <= tried
