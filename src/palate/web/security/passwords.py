"""Passwords: rules, argon2 hashes, and checks that take as long for an unknown name as for a known one."""

from __future__ import annotations

import secrets
import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from palate.errors import UsageError

SHORTEST = 10
LONGEST = 500

_HASHER = PasswordHasher()
# A hash takes 64 MiB, so many logins at the same moment must not run side by side.
_SLOTS = threading.BoundedSemaphore(4)


def hash_password(password: str, *, name: str) -> str:
    """The argon2id hash of a new password of the person `name`.

    Raises:
        UsageError: the password is too short or too long, or is the name.
    """
    if len(password) < SHORTEST:
        raise UsageError(f"the password has {len(password)} characters; use at least {SHORTEST}")
    if len(password) > LONGEST:
        raise UsageError(f"the password has {len(password)} characters; use at most {LONGEST}")
    if password.casefold() == name.casefold():
        raise UsageError("the password is the name; choose another one")
    if len(set(password)) == 1:
        raise UsageError("the password is one character repeated; choose another one")
    with _SLOTS:
        return _HASHER.hash(password)


def matches(stored: str, password: str) -> bool:
    """Whether a password is that of a stored hash. An empty hash matches none, and takes as long to say so."""
    with _SLOTS:
        try:
            _HASHER.verify(stored or hash_of_nobody(), password)
        except (VerificationError, InvalidHashError):
            return False
    return bool(stored)


@cache
def hash_of_nobody() -> str:
    """The hash that names without a password are checked against; made when the server starts, since it takes time."""
    return _HASHER.hash(secrets.token_urlsafe(32))
