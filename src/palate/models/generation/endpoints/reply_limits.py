"""Limits of the size and the duration of an engine's reply: a reply that never ends must not fill the memory.

The timeouts of an HTTP client are for each read; they do not end a reply that sends a byte now and then for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2
from openai import OpenAIError

MOST_BYTES = 4 << 20
"""Longest reply, 4 MiB: about a million tokens, or 10,000 with 20 log-probabilities each."""


class ReplyLimit(OpenAIError):  # noqa: N818 - says what was reached
    """A reply is too long or does not end. The SDK does not repeat a request after its own kind of error."""


def limit_replies(client: httpx2.Client, *, seconds: float, most_bytes: int = MOST_BYTES) -> None:
    """Make reads of every reply of the client fail after `most_bytes`, or `seconds` after its headers."""

    def limit(response: httpx2.Response) -> None:
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _LimitedStream(response.stream, seconds, most_bytes)

    client.event_hooks["response"].append(limit)


class _LimitedStream(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, seconds: float, most_bytes: int) -> None:
        self._stream = stream
        self._seconds = seconds
        self._left = most_bytes
        self._most = most_bytes
        self._end = time.monotonic() + seconds

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise ReplyLimit(f"the reply is longer than {self._most:,} bytes")
            if time.monotonic() > self._end:
                raise ReplyLimit(f"the reply did not end within {self._seconds:g} seconds")
            yield chunk

    def close(self) -> None:
        self._stream.close()
