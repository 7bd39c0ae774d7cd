"""Smoke prompts: a version that answers nothing, or repeats itself, is not taken over, and the history says why."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateways import ASK, Fake, eventually
from model_folders import fake_model
from palate.errors import EngineError
from palate.registry import add, canary_of, find, moves, promote, resolve, set_canary
from palate.registry.behaviour import RollbackFields
from palate.registry.canary import canary_moves
from palate.serving.app import Gateway
from palate.serving.backends.base import Backend
from palate.serving.loading import StoreRegistry
from palate.serving.models import LoadedVersion, Models, Served
from palate.serving.problems import ApiError, Busy
from palate.serving.settings import ServeFields
from palate.serving.smoke_prompts import PROMPTS, DegenerateError, check_answers
from palate.store import Store
from sites import running

GOOD, EMPTY, LOOP = ("One", " two"), (" ", "\n"), ("no",) * 20


class WithLogprobs(Fake):
    """Gives its answers a log-probability."""

    logprob: float = -0.5

    async def reply(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        found = await super().reply(endpoint, body)
        if body.get("logprobs"):
            found["choices"][0]["logprobs"] = {"content": [{"token": "One", "logprob": self.logprob}]}
        return found


class WithoutLogprobs(Fake):
    """An engine that refuses log-probabilities."""

    async def reply(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        if "logprobs" in body:
            raise ApiError(400, "logprobs: not supported")
        return await super().reply(endpoint, body)


def check(new: Fake, current: Fake) -> None:
    asyncio.run(check_answers(new, current))


def test_good_answers_pass_and_the_version_in_use_is_not_asked() -> None:
    for new in (Fake("new", words=GOOD), WithLogprobs("new", words=GOOD), WithoutLogprobs("new", words=GOOD)):
        current = Fake("old", words=GOOD)
        check(new, current)
        assert (len(new.bodies), current.bodies) == (len(PROMPTS), [])


@pytest.mark.parametrize(
    ("words", "said"), [(EMPTY, "'Hello! How are you?' with nothing"), (LOOP, "with a repetition, 'nonono")]
)
def test_nothing_and_repetitions_are_refused_if_the_version_in_use_does_better(
    words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DegenerateError, match="smoke prompts: new answers 3 of 3 badly, old 0: ") as error:
        check(Fake("new", words=words), Fake("old", words=GOOD))
    assert said in str(error.value)
    check(Fake("new", words=words), Fake("old", words=LOOP))


class BadAtFirst(Fake):
    """Gives some bad answers, then good ones."""

    bad: int = 0

    async def events(self, endpoint: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        self.words = LOOP if len(self.bodies) < self.bad else GOOD
        async for chunk in super().events(endpoint, body):
            yield chunk


@pytest.mark.parametrize(("new", "old", "refused"), [(1, 0, False), (2, 0, True), (2, 1, True), (2, 2, False)])
def test_one_bad_answer_is_forgiven_and_so_are_as_many_as_before(new: int, old: int, refused: bool) -> None:
    backends = BadAtFirst("new"), BadAtFirst("old")
    backends[0].bad, backends[1].bad = new, old
    with pytest.raises(DegenerateError) if refused else nullcontext():
        check(*backends)


def test_log_probabilities_that_are_no_numbers_are_refused() -> None:
    broken = WithLogprobs("new", words=GOOD)
    broken.logprob = math.nan
    with pytest.raises(DegenerateError, match=r"log-probabilities of .* are no numbers"):
        check(broken, Fake("old", words=LOOP))


def test_an_engine_that_fails_is_no_bad_version() -> None:
    with pytest.raises(EngineError, match="smoke prompts: new: it is away"):
        check(Fake("new", error=ApiError(502, "it is away")), Fake("old"))


class BusyAtFirst(Fake):
    """Has no place for the first request."""

    async def reply(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        if len(self.bodies) < 1:
            self.bodies.append(body)
            raise Busy("too many requests")
        return await super().reply(endpoint, body)


def test_a_version_in_use_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serving.smoke_prompts._BUSY_SECONDS", 0.01)
    with pytest.raises(DegenerateError, match="new answers 3 of 3 badly, old 0"):
        check(Fake("new", words=EMPTY), BusyAtFirst("old", words=GOOD))


class Thinks(Fake):
    """Is cut off while it thinks."""

    async def reply(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        found = await super().reply(endpoint, body)
        found["choices"][0]["message"] = {"content": None, "reasoning_content": "The user greets me, so"}
        return found


def test_a_model_that_thinks_first_answers() -> None:
    check(Thinks("new"), Fake("old", words=GOOD))


class Shelf(StoreRegistry):
    """The real registry; v1.1 answers nothing."""

    def load(self, name: str, version: str) -> tuple[Backend, Path]:
        found = resolve(self._store, version)
        return Fake(found.name, words=EMPTY if found.name == "v1.1" else GOOD), found.folder


@pytest.fixture
def registry(sqlite_store: Store, tmp_path: Path) -> Store:
    for number in range(3):
        add(sqlite_store, fake_model(tmp_path / f"m{number}", number), models_dir=tmp_path / "models", who="t")
    promote(sqlite_store, "v1.0", reason="first", who="t")
    return sqlite_store


def make_gateway(store: Store, **settings: Any) -> Gateway:
    fields = ServeFields(models={"m": {"alias": "production"}}, poll_seconds=0.02, **settings)  # type: ignore[dict-item]
    shelf = Shelf(store, fields)
    backend, at = shelf.load("m", "production")
    served = {"m": Served("m", LoadedVersion(backend), "production", at)}
    return Gateway(store, fields, Models(served, shelf, smoke_prompts=fields.smoke_prompts))


def test_the_version_before_continues_and_the_history_says_why(
    registry: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "palate.serving")
    with running(make_gateway(registry).app) as url:
        promote(registry, "v1.1", reason="better", who="ann")
        eventually(lambda: moves(registry)[-1].action == "refused")
        assert httpx2.get(f"{url}/health/ready").json()["kept"] == {"m": "v1.0"}
        assert httpx2.post(f"{url}/v1/chat/completions", json=ASK).json()["model"] == "v1.0"
        last = moves(registry)[-1]
        assert (last.alias, last.before, last.version, last.who) == ("production", "v1.0", "v1.1", "palate")
        assert last.reason.startswith("smoke prompts: v1.1 answers 3 of 3 badly, v1.0 0: 'Hello! How are you?' with ")
        assert f"m stays at v1.0: {last.reason}" in caplog.text
        assert find(registry, "production").name == "v1.1", "without permission nothing moves"
        promote(registry, "v1.2", reason="mended", who="ann")
        eventually(lambda: httpx2.post(f"{url}/v1/chat/completions", json=ASK).json()["model"] == "v1.2")
    assert [move.action for move in moves(registry, "v1.1")].count("refused") == 1


def test_where_a_rollback_is_allowed_the_alias_moves_back(registry: Store) -> None:
    with running(make_gateway(registry, rollback=RollbackFields()).app):
        promote(registry, "v1.1", reason="better", who="ann")
        eventually(lambda: find(registry, "production").name == "v1.0")
    last = moves(registry)[-1]
    assert (last.action, last.before, last.version, last.who) == ("rollback", "v1.1", "v1.0", "palate")
    assert "with nothing" in last.reason


def test_a_canary_is_ended_and_smoke_prompts_can_be_left_out(registry: Store) -> None:
    with running(make_gateway(registry).app):
        set_canary(registry, "v1.1", 0.5, reason="try", who="ann")
        eventually(lambda: registry.read(canary_of) is None)
        ended = registry.read(lambda session: canary_moves(session, "v1.1"))[-1]
        assert (ended.share, ended.who, "with nothing" in ended.reason) == (0.0, "palate", True)
    with running(make_gateway(registry, smoke_prompts=False).app) as url:
        promote(registry, "v1.1", reason="it is a base model", who="ann")
        eventually(lambda: httpx2.get(f"{url}/v1/models/m").json()["root"] == "v1.1")


def test_a_server_starts_with_a_version_that_fails_and_says_so(
    registry: Store, caplog: pytest.LogCaptureFixture
) -> None:
    promote(registry, "v1.1", reason="the only one", who="ann")
    with running(make_gateway(registry).app) as url:

        def health() -> Any:
            return httpx2.get(f"{url}/health/ready").json()

        assert eventually(lambda: health()["failed_smoke_prompts"]) == {"m": "v1.1"}
        assert "m: v1.1 is served although it fails: smoke prompts: v1.1 answers 3 of 3 badly: 'Hello!" in caplog.text
        assert httpx2.post(f"{url}/v1/chat/completions", json=ASK).json()["model"] == "v1.1"
        promote(registry, "v1.2", reason="mended", who="ann")
        assert eventually(lambda: not health()["failed_smoke_prompts"])
    assert [move.action for move in moves(registry, "v1.1")].count("refused") == 0


def test_an_engine_without_versions_is_not_asked_when_the_server_starts(sqlite_store: Store) -> None:
    engine, own = Fake("gpt", content_hash=None), Fake("run", words=EMPTY)
    served = {"engine": Served("engine", LoadedVersion(engine)), "own": Served("own", LoadedVersion(own))}
    fields = ServeFields(models={name: {"model": name} for name in served})  # type: ignore[dict-item]
    with running(Gateway(sqlite_store, fields, Models(served)).app) as url:
        eventually(lambda: httpx2.get(f"{url}/health/ready").json()["failed_smoke_prompts"] == {"own": "run"})
    assert (len(engine.bodies), len(own.bodies)) == (0, len(PROMPTS))
