"""JSON and server-sent events as they are read from and written to the network."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(data: str | bytes) -> Any:
    """A JSON value; raises ValueError for invalid JSON or UTF-8, NaN, infinity, and a nesting that is too deep."""
    try:
        return _DECODER.decode(data if isinstance(data, str) else data.decode())
    except RecursionError:
        raise ValueError("nested too deep") from None


def to_json(value: Any) -> bytes:
    """A value as JSON; half a surrogate pair, which UTF-8 cannot write, becomes a question mark."""
    return _ENCODER.encode(value).encode("utf-8", "replace")


def event(data: dict[str, Any], name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (head, to_json(data))


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
