"""API keys: made, listed, revoked and found. The store has their hashes only."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.serving.recording.entries import Policy
from palate.store.serving_tables import ApiKey
from palate.store.texts import is_storable

_PREFIX = "palate-"
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key allows.

    Attributes:
        recording: what is recorded of its requests.
        consent: whether its people consented to training, where a request does not say.
        requests_per_minute, tokens_per_day: None for no limit.
        retention_days: after which its interactions are deleted; None to keep them.
    """

    recording: Policy = "none"
    consent: bool = False
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    retention_days: int | None = None

    @classmethod
    def of(cls, row: ApiKey) -> KeyTerms:
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})


def create_key(session: Session, name: str, terms: KeyTerms, now: datetime) -> str:
    """A new key, which can be read here only.

    Raises:
        UsageError: the name is taken, empty, too long or not storable.
    """
    if not name.strip() or len(name) > _LONGEST_NAME or not is_storable(name):
        raise UsageError(f"the name of a key has 1 to {_LONGEST_NAME} characters, not {len(name)}")
    if session.scalar(select(ApiKey.id).where(ApiKey.name == name)) is not None:
        raise UsageError(f"there is a key {name} already; choose another name")
    key = _PREFIX + secrets.token_urlsafe(32)
    session.add(ApiKey(name=name, key_hash=hash_key(key), created=now, **asdict(terms)))
    session.flush()
    return key


def list_keys(session: Session) -> list[ApiKey]:
    """All keys by name, revoked ones too: interactions refer to them."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.name)))


def revoke_key(session: Session, name: str) -> None:
    """Revoke a key; raises UsageError if there is none."""
    found = session.scalar(select(ApiKey).where(ApiKey.name == name))
    if found is None:
        raise UsageError(f"there is no key {name}; palate keys list shows them")
    found.active = False


def count_keys(session: Session) -> int:
    """Number of keys that work."""
    return session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.active)) or 0


def find_key(session: Session, key_hash: str) -> ApiKey | None:
    """The key with a hash, if it works."""
    return session.scalar(select(ApiKey).where(ApiKey.key_hash == key_hash, ApiKey.active))


def note_use(session: Session, key_id: int, now: datetime) -> None:
    """Remember when a key was used last."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used=now))


def used_tokens(row: ApiKey, day: int) -> int:
    """Tokens of a key on a day (UTC days since 1970), as far as they are stored."""
    return row.used_tokens or 0 if row.used_day == day else 0


def add_used_tokens(session: Session, key_id: int, day: int, tokens: int) -> int | None:
    """Add tokens to those of a key on a day; returns their sum, None if a later day has begun."""
    total = case((ApiKey.used_day == day, func.coalesce(ApiKey.used_tokens, 0) + tokens), else_=tokens)
    of_key = update(ApiKey).where(ApiKey.id == key_id, func.coalesce(ApiKey.used_day, day) <= day)
    return session.scalar(of_key.values(used_day=day, used_tokens=total).returning(ApiKey.used_tokens))


def hash_key(key: str) -> str:
    """SHA-256. A key is 32 random bytes, so no slow hash is needed."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
