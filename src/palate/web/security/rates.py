"""How often logins are tried and votes are sent. Counted in this process; palate serves its pages with one."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException

from palate.charts.text import amount

LOGINS = RateLimitItemPerMinute(10, 15, "login")
"""Per name and address, so that nobody can lock another person out from elsewhere."""
LOGINS_OF_ADDRESS = RateLimitItemPerMinute(60, 15, "address")
LOGINS_OF_NAME = RateLimitItemPerMinute(300, 15, "name")


class Rates:
    """Counts of the last minutes."""

    def __init__(self, votes_per_minute: int) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._votes = RateLimitItemPerMinute(votes_per_minute, 1, "votes")

    def login(self, name: str, address: str) -> None:
        """Count an attempt to log in.

        Raises:
            HTTPException: 429, there were too many.
        """
        name = name.casefold()[:100]
        self._count(LOGINS, name, address)
        self._count(LOGINS_OF_ADDRESS, address)
        self._count(LOGINS_OF_NAME, name)

    def logged_in(self, name: str, address: str) -> None:
        """Forget the attempts that came before a right password."""
        self._limiter.clear(LOGINS, name.casefold()[:100], address)

    def vote(self, person_id: int) -> None:
        """Count a vote.

        Raises:
            HTTPException: 429, there were too many.
        """
        self._count(self._votes, str(person_id))

    def _count(self, limit: RateLimitItem, *who: str) -> None:
        if not self._limiter.hit(limit, *who):
            wait = max(1, math.ceil(self._limiter.get_window_stats(limit, *who).reset_time - time.time()))
            raise HTTPException(429, f"Too many attempts; wait {_duration(wait)}.", {"Retry-After": str(wait)})


def _duration(seconds: int) -> str:
    return amount(seconds, "second") if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"
