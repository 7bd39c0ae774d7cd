"""Gateways over backends of the tests' own, and clients of them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from palate.serving.app import Gateway
from palate.serving.gather import Gathered
from palate.serving.models import LoadedVersion, Models, Served
from palate.serving.settings import ServeFields
from palate.store import Store, open_store
from palate.store.serving_tables import Interaction, InteractionAnswer
from sites import running

ASK = {"model": "m", "messages": [{"role": "user", "content": "Say something."}]}


@dataclass
class Fake:
    """A backend that says `words`, one a chunk, up to `max_tokens` of them, to each of n choices.

    Attributes:
        version: its name.
        words: of its answer.
        seconds: between two chunks.
        wait: for this event before the first chunk.
        error: raised after the words.
        bodies: the requests.
        running, closed, left: generations in progress, whether it is closed, and generations that were given up.
    """

    version: str = "v1"
    words: tuple[str, ...] = ("One", " two", " three")
    seconds: float = 0.0
    wait: threading.Event | None = None
    error: Exception | None = None
    content_hash: str | None = "hash-of-v1"
    template_hash: str | None = "hash-of-template"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    running: int = 0
    left: int = 0
    closed: bool = False

    async def events(self, endpoint: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        assert not self.closed
        self.bodies.append(body)
        self.running += 1
        n = body.get("n") or 1
        chat = endpoint == "chat/completions"
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": self.version}
        ended = False
        try:
            while self.wait is not None and not self.wait.is_set():
                await asyncio.sleep(0.01)
            for word in self.words[: body.get("max_tokens")]:
                if self.seconds:
                    await asyncio.sleep(self.seconds)
                said = {"delta": {"role": "assistant", "content": word}} if chat else {"text": word}
                yield {**head, "choices": [{"index": index, **said, "finish_reason": None} for index in range(n)]}
            if self.error is not None:
                raise self.error
            said = {"delta": {}} if chat else {"text": ""}
            ended = True
            yield {**head, "choices": [{"index": index, **said, "finish_reason": "stop"} for index in range(n)]}
            usage = {"prompt_tokens": 5, "completion_tokens": len(self.words) * n, "total_tokens": 0}
            yield {**head, "choices": [], "usage": usage}
        finally:
            self.running -= 1
            self.left += not ended

    async def reply(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        gathered = Gathered()
        async for chunk in self.events(endpoint, body):
            gathered.add(chunk)
        return gathered.whole(chat=endpoint == "chat/completions")

    async def check(self) -> None:
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        assert not self.running
        self.closed = True


def make_gateway(store: Store, backends: Mapping[str, Any], **settings: Any) -> Gateway:
    """A gateway over these backends."""
    fields = ServeFields(
        models={name: {"model": name} for name in backends},  # type: ignore[dict-item]
        **{"record": "full", "grace_seconds": 1, "smoke_prompts": False, **settings},
    )
    served = {name: Served(name, LoadedVersion(one)) for name, one in backends.items()}
    return Gateway(store, fields, Models(served, smoke_prompts=fields.smoke_prompts))


@contextmanager
def serving(store: Store, *backends: Any, **settings: Any) -> Iterator[str]:
    """The address of a running gateway; the first backend is `m`, the others are `m1`, `m2` …"""
    named = {f"m{number or ''}": backend for number, backend in enumerate(backends)}
    with running(make_gateway(store, named, **settings).app) as url:
        yield url


def rows(store: Store) -> list[Interaction]:
    """All interactions in the order of their creation."""
    return store.read(lambda session: list(session.scalars(select(Interaction).order_by(Interaction.created))))


def texts(store: Store, interaction: str) -> list[str | None]:
    """The recorded answers of an interaction."""
    of = select(InteractionAnswer.text).where(InteractionAnswer.interaction_id == interaction)
    return store.read(lambda session: list(session.scalars(of.order_by(InteractionAnswer.number))))


def eventually(check: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of `check`; fails if there is none in time."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it has not come true"
        time.sleep(0.01)
    return found


def states(store: Store, count: int = 1) -> list[str]:
    """The states of all interactions, once there are `count` and none is open."""
    return eventually(
        lambda: (
            found
            if len(found := [row.state for row in rows(store)]) >= count and not {"reserved", "streaming"} & set(found)
            else None
        )
    )


def events(text: str) -> list[Any]:
    """The data of server-sent events."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@pytest.fixture
def gateway_store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "palate.db"))
    yield opened
    opened.close()
