"""Signed values: the token by which a client gives feedback on one completion, and hashes of people's ids."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta

LIFETIME = timedelta(days=30)
"""How long feedback on a completion is accepted."""


def feedback_token(secret: bytes, interaction: str, now: datetime) -> str:
    """The token of an interaction: its id, the time of its end, and the signature of both."""
    content = f"{interaction}.{int((now + LIFETIME).timestamp())}"
    return f"{content}.{_sign(secret, 'feedback', content)}"


def read_token(secret: bytes, token: str, now: datetime) -> str | None:
    """The interaction that a token is for; None if it was not signed here, or its time is over."""
    content, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), _sign(secret, "feedback", content).encode()):
        return None
    interaction, _, end = content.rpartition(".")
    return interaction if now.timestamp() < int(end) else None


def user_hash(secret: bytes, user: str) -> str:
    """A hash of a person's id that nobody can guess the id from without the store's secret."""
    return _sign(secret, "user", user)


def _sign(secret: bytes, purpose: str, content: str) -> str:
    message = f"palate {purpose}\0{content}".encode("utf-8", "replace")
    return hmac.new(secret, message, hashlib.sha256).hexdigest()
