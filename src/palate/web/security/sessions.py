"""Logins in the store: the browser has a random token, the table its SHA-256. Each function takes a session."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from palate.store.tables import LoginSession, User
from palate.web.security.accounts import Person, person_of


def new_token() -> str:
    """A random token of 256 bits for a cookie."""
    return secrets.token_urlsafe(32)


def open_login(session: Session, user_id: int, token: str, *, now: datetime, hours: float) -> None:
    """Store a login of a person under a new token, and remove the logins that have expired."""
    session.execute(delete(LoginSession).where(LoginSession.expires <= now))
    session.add(
        LoginSession(token_hash=_digest(token), user_id=user_id, created=now, expires=now + timedelta(hours=hours))
    )


def find_login(session: Session, token: str, now: datetime) -> Person | None:
    """The person whom a token logs in; None if there is no such login, it has expired or the account is disabled."""
    user = session.scalar(
        select(User)
        .join(LoginSession, LoginSession.user_id == User.id)
        .where(LoginSession.token_hash == _digest(token), LoginSession.expires > now, User.active)
    )
    return None if user is None else person_of(user)


def close_login(session: Session, token: str) -> None:
    session.execute(delete(LoginSession).where(LoginSession.token_hash == _digest(token)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
