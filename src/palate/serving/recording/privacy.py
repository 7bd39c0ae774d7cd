"""What of a request reaches the disk under each recording policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from palate.data.measures.safety import redact
from palate.serving.recording.entries import Policy

_BINARY = "[binary]"
_MOST_WORDS = 40
"""More than the longest number has groups of digits."""
_LIKELY_PRIVATE = re.compile(r"[@\d]|^sk-|^eyJ")


def kept_text(text: str | None, policy: Policy, *, ended: bool = True) -> str | None:
    """A text as it may be stored; None if it may not.

    Characters that a database cannot keep (NUL, half a surrogate pair) become U+FFFD.

    Args:
        ended: False for a text that was cut off: an address or a number at its end may be cut in two, so that it is no
            longer recognised; it is left out.
    """
    if text is None or policy in ("none", "metadata"):
        return None
    text = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if policy == "full":
        return text
    return redact(text if ended else _without_private_end(text))


def kept_json(value: Any, policy: Policy) -> Any:
    """The same for every text in a JSON value; under `redacted`, images and sounds are left out."""
    if policy in ("none", "metadata"):
        return None
    if isinstance(value, str):
        if policy == "redacted" and value.startswith("data:") and ";base64," in value[:100]:
            return _BINARY
        return kept_text(value, policy)
    if isinstance(value, Mapping):
        if policy == "redacted" and value.get("type") == "input_audio":
            return {"type": "input_audio", "input_audio": _BINARY}
        return {kept_text(str(name), policy): kept_json(inner, policy) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [kept_json(inner, policy) for inner in value]
    return value


def kept_settings(decoding: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """The settings of the sampling; without texts (stop sequences) where texts are not stored."""
    numbers = {name: value for name, value in decoding.items() if isinstance(value, bool | int | float)}
    rest = {name: value for name, value in decoding.items() if name not in numbers and value is not None}
    return {**numbers, **(kept_json(rest, policy) or {})}


def _without_private_end(text: str) -> str:
    """The text without the words at its end that may be the beginning of an address, a number or a key."""
    for _ in range(_MOST_WORDS):
        head = text.rstrip()
        word = head.rsplit(None, 1)[-1] if head else ""
        if not _LIKELY_PRIVATE.search(word):
            break
        text = head.removesuffix(word)
    return text
