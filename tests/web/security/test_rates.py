"""Counts of votes and logins."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from palate.web.security.rates import Rates


def test_votes_are_counted_per_person() -> None:
    rates = Rates(votes_per_minute=2)
    rates.vote(1)
    rates.vote(1)
    with pytest.raises(HTTPException) as refused:
        rates.vote(1)
    assert refused.value.status_code == 429
    assert refused.value.headers is not None
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    rates.vote(2)


def test_upper_and_lower_case_count_as_one_name() -> None:
    rates = Rates(votes_per_minute=1)
    for number in range(10):
        rates.login("Anna" if number % 2 else "ANNA", "10.0.0.1")
    with pytest.raises(HTTPException, match=r"Too many attempts; wait 1[0-5] minutes"):
        rates.login("anna", "10.0.0.1")


def test_a_name_that_is_tried_from_many_addresses_is_limited_late() -> None:
    """So that nobody locks a person out with a few requests, and nobody tries passwords from a botnet without end."""
    rates = Rates(votes_per_minute=1)
    for number in range(300):
        rates.login("anna", f"10.0.{number // 250}.{number % 250}")
    with pytest.raises(HTTPException):
        rates.login("anna", "10.0.9.9")
    rates.login("ben", "10.0.9.9")
