"""Accounts in the store: people with a name, a role and a password. Each function takes a session of `store.write`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.registry.canary import AUTOMATON
from palate.store.tables import LoginSession, User

Role: TypeAlias = Literal["annotator", "reviewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From the least to the most rights; each role may do what those before it may."""

LOCAL_NAME = "local"
"""The person who labels on this machine without an account."""

_NAME = re.compile(r"[\w.@+-]{1,64}")


@dataclass(frozen=True, slots=True)
class Person:
    """Who makes a request.

    Attributes:
        id: of the account in the store.
        name: of the account.
        role: annotator, reviewer or admin.
    """

    id: int
    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether the person has the rights of a role."""
        return ROLES.index(self.role) >= ROLES.index(role)


def person_of(user: User) -> Person:
    """The person of a row; a role that this palate does not know has the fewest rights."""
    role: Role = next((role for role in ROLES if role == user.role), ROLES[0])
    return Person(user.id, user.name, role)


def add_account(session: Session, name: str, password_hash: str, role: Role, now: datetime) -> Person:
    """Add an account.

    Raises:
        UsageError: the name has other characters than letters, digits and `. _ @ + -`, or is taken.
    """
    name = unicodedata.normalize("NFKC", name.strip())
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r}: a name has 1 to 64 letters, digits, and the characters . _ @ + -")
    if name.casefold() == LOCAL_NAME:
        raise UsageError(f"{name}: is the name of the person without an account; choose another one")
    if name.casefold() == AUTOMATON:
        raise UsageError(f"{name}: is the name under which a cycle acts; choose another one")
    if any(other.casefold() == name.casefold() for other in session.scalars(select(User.name))):
        raise UsageError(f"{name}: there is such an account; palate label users passwd changes its password")
    user = User(name=name, password_hash=password_hash, role=role, active=True, created=now)
    session.add(user)
    session.flush()
    return person_of(user)


def find_account(session: Session, name: str) -> User | None:
    """The account of a name; upper and lower case are the same."""
    wanted = unicodedata.normalize("NFKC", name.strip()).casefold()
    return next((user for user in session.scalars(select(User)) if user.name.casefold() == wanted), None)


def set_password(session: Session, name: str, password_hash: str) -> Person:
    """Change a password and log the person out everywhere.

    Raises:
        UsageError: there is no such account.
    """
    user = _account(session, name)
    user.password_hash = password_hash
    session.execute(delete(LoginSession).where(LoginSession.user_id == user.id))
    return person_of(user)


def set_active(session: Session, name: str, active: bool) -> Person:
    """Disable an account, which logs the person out everywhere, or enable it again. Its votes stay.

    Raises:
        UsageError: there is no such account.
    """
    user = _account(session, name)
    user.active = active
    if not active:
        session.execute(delete(LoginSession).where(LoginSession.user_id == user.id))
    return person_of(user)


def list_accounts(session: Session) -> Sequence[User]:
    """The accounts by name, without the local person."""
    return session.scalars(select(User).where(User.name != LOCAL_NAME).order_by(User.name)).all()


def can_log_in(session: Session) -> int:
    """The number of accounts that somebody can log in to."""
    wanted = select(func.count()).select_from(User).where(User.password_hash != "", User.active)
    return session.scalar(wanted) or 0


def local_person(session: Session, now: datetime) -> Person:
    """The person without an account, added on the first call; an admin, since the machine is theirs."""
    user = session.scalar(select(User).where(User.name == LOCAL_NAME))
    if user is None:
        user = User(name=LOCAL_NAME, password_hash="", role="admin", active=True, created=now)
        session.add(user)
        session.flush()
    return person_of(user)


def _account(session: Session, name: str) -> User:
    user = find_account(session, name)
    if user is None or user.name == LOCAL_NAME:
        raise UsageError(f"{name}: there is no such account; palate label users list shows them")
    return user
