"""Replies that are too long or never end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from palate.models.generation.endpoints.reply_limits import ReplyLimit, limit_replies


class Stream(httpx.SyncByteStream):
    def __init__(self, chunks: int, pause: float = 0.0) -> None:
        self.chunks = chunks
        self.pause = pause
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.chunks):
            self.read += 1
            if self.pause:
                time.sleep(self.pause)
            yield b"x" * 10

    def close(self) -> None:
        self.closed = True


def client(stream: Stream, *, seconds: float = 60, most_bytes: int = 100) -> httpx.Client:
    made = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=stream)))
    limit_replies(made, seconds=seconds, most_bytes=most_bytes)
    return made


def test_a_reply_at_the_limit_is_read_whole() -> None:
    assert len(client(Stream(10)).get("http://h").content) == 100


def test_a_longer_reply_is_given_up_and_closed() -> None:
    stream = Stream(1000)
    with pytest.raises(ReplyLimit, match="longer than 100 bytes"):
        client(stream).get("http://h")
    assert stream.read == 11
    assert stream.closed


def test_a_reply_that_drips_is_given_up() -> None:
    stream = Stream(1000, pause=0.01)
    with pytest.raises(ReplyLimit, match=r"did not end within 0\.05 seconds"):
        client(stream, seconds=0.05, most_bytes=10**9).get("http://h")
    assert stream.read < 100
