"""Who makes a request, and how many of them: API keys, their limits, and what a route asks for.

Every route declares what it asks for, `Open` or `NeedsKey`; `create_app` refuses a route that does not.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias, cast

from fastapi import Depends
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy.orm import Session
from starlette.requests import Request

from palate.errors import StoreError
from palate.network.roles import NeedsRole
from palate.serving.keys import KeyTerms, add_used_tokens, find_key, hash_key, note_use, used_tokens
from palate.serving.problems import ApiError, Busy
from palate.store import Store

_LOG = logging.getLogger("palate.serving")

Role: TypeAlias = Literal["anonymous", "key"]
ROLES: tuple[Role, ...] = ("anonymous", "key")

_REMEMBERED_SECONDS = 5.0
"""A revoked key works this long at most."""
_MOST_REMEMBERED = 10_000
_NOTED_SECONDS = 60.0
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        key_id: of the key; None on a server without keys.
        terms: what the key allows.
    """

    key_id: int | None
    terms: KeyTerms


@dataclass(slots=True)
class _Known:
    caller: Caller | None
    until: float
    noted: float = field(default=-math.inf)


@dataclass(slots=True)
class _Spent:
    """Tokens of a key on a day: those in the store, also of other processes, and those that are not stored yet."""

    day: int
    stored: int = 0
    unsaved: int = 0


class Access:
    """Finds callers and counts their requests, in this process; palate serves with one.

    Tokens of a day are stored after each request, so that they outlive the process.

    Args:
        store: has the keys.
        needed: whether requests need a key.
        anonymous: terms of a request without a key, where none is needed.
    """

    def __init__(self, store: Store, *, needed: bool, anonymous: KeyTerms) -> None:
        self._store = store
        self._needed = needed
        self._anonymous = Caller(None, anonymous)
        self._known: dict[str, _Known] = {}
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._spent: dict[int, _Spent] = {}
        self._save_lock = asyncio.Lock()
        self._save_waits = False
        self._notes: set[asyncio.Task[None]] = set()

    async def caller(self, authorization: str) -> Caller:
        """The caller with this header.

        Raises:
            ApiError: 401 without a key that works.
        """
        scheme, _, key = authorization.partition(" ")
        if not self._needed:
            return self._anonymous  # clients send a placeholder
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(401, "give an API key: Authorization: Bearer KEY", code="invalid_api_key")
        digest, now = hash_key(key.strip()), time.monotonic()
        known = self._known.get(digest)
        if known is None or known.until < now:
            known = await self._look_up(digest, now, known)
        if known.caller is None:
            raise ApiError(401, "this API key does not work", code="invalid_api_key")
        return known.caller

    async def _look_up(self, digest: str, now: float, before: _Known | None) -> _Known:
        row = await asyncio.to_thread(self._store.read, lambda session: find_key(session, digest))
        caller = None
        if row is not None:
            caller = Caller(row.id, KeyTerms.of(row))
            self._spent_today(row.id).stored = used_tokens(row, _today())
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        known = _Known(caller, now + _REMEMBERED_SECONDS, before.noted if before is not None else -math.inf)
        self._known[digest] = known
        if caller is not None and now - known.noted > _NOTED_SECONDS:
            known.noted = now
            task = asyncio.create_task(self._note(cast(int, caller.key_id)))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)
        return known

    async def _note(self, key_id: int) -> None:
        at = datetime.now(UTC)
        try:
            await asyncio.to_thread(self._store.write, lambda session: note_use(session, key_id, at))
        except StoreError as error:  # requests do not depend on it
            _LOG.error("%s", error)

    def count(self, caller: Caller) -> None:
        """Count a request.

        Raises:
            ApiError: 429, the key has no requests or tokens left.
        """
        key_id, terms = caller.key_id, caller.terms
        if key_id is None:
            return
        spent = self._spent_today(key_id)
        if terms.tokens_per_day is not None and spent.stored + spent.unsaved >= terms.tokens_per_day:
            left = math.ceil(_DAY - time.time() % _DAY)
            raise Busy("this key has used its tokens of today (UTC)", left, code="rate_limit_exceeded")
        if terms.requests_per_minute is not None:
            limit = RateLimitItemPerMinute(terms.requests_per_minute)
            if not self._limiter.hit(limit, str(key_id)):
                reset = self._limiter.get_window_stats(limit, str(key_id)).reset_time
                wait = max(1, math.ceil(reset - time.time()))
                raise Busy(f"at most {terms.requests_per_minute} requests per minute", wait, code="rate_limit_exceeded")

    async def add_tokens(self, caller: Caller, tokens: int) -> None:
        """Count tokens of a request, read and written, and store them."""
        if caller.key_id is not None and caller.terms.tokens_per_day is not None:
            self._spent_today(caller.key_id).unsaved += tokens
            if not self._save_waits:  # it stores these, too; a locked database must not be tried once a request
                await self.save()

    async def save(self) -> None:
        """Store the tokens that are not stored yet; those of several requests in one transaction."""
        self._save_waits = True
        async with self._save_lock:
            self._save_waits = False
            pending = {key: (spent, spent.unsaved) for key, spent in self._spent.items() if spent.unsaved}

            def work(session: Session) -> dict[int, int | None]:
                return {key: add_used_tokens(session, key, spent.day, n) for key, (spent, n) in pending.items()}

            try:
                totals = await asyncio.to_thread(self._store.write, work) if pending else {}
            except StoreError as error:  # they are written the next time
                _LOG.error("%s", error)
                return
            for key, (spent, n) in pending.items():
                spent.unsaved -= n
                spent.stored = totals[key] or spent.stored + n

    def _spent_today(self, key_id: int) -> _Spent:
        spent = self._spent.get(key_id)
        if spent is None or spent.day != _today():
            spent = self._spent[key_id] = _Spent(_today())
        return spent


def _today() -> int:
    return int(time.time() // _DAY)


class NeedsCaller(NeedsRole):
    """A dependency that lets nobody through who has no key, where keys are needed."""

    def __init__(self, role: Role) -> None:
        self.role: Role = role

    async def __call__(self, request: Request) -> Caller | None:
        if self.role == "anonymous":
            return None
        access: Access = request.app.state.access
        return await access.caller(request.headers.get("authorization", ""))


_OPEN, _NEEDS_KEY = NeedsCaller("anonymous"), NeedsCaller("key")
Open, NeedsKey = Depends(_OPEN), Depends(_NEEDS_KEY)
