"""Automatic rollback: each figure triggers it, little traffic does not, a person wins, a kill leaves one version."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import httpx2
import numpy as np
import pytest
from sqlalchemy import update

from gateways import ASK, Fake, eventually
from model_folders import fake_model
from palate.errors import EngineError, UsageError
from palate.registry import add, find, moves, promote, resolve, rollback
from palate.registry.behaviour import Behaviour, RollbackFields, compare
from palate.registry.canary import AUTOMATON
from palate.serving.app import Gateway
from palate.serving.backends.base import Backend
from palate.serving.loading import StoreRegistry
from palate.serving.models import LoadedVersion, Models, Served
from palate.serving.problems import ApiError
from palate.serving.rollback import AutomaticRollback
from palate.serving.settings import ServeFields
from palate.store import Store, open_store
from palate.store.serving_tables import FeedbackRow, Interaction, InteractionAnswer
from recorded import Clock, Recording
from sites import running

FIELDS = RollbackFields(at_least=100)
NUMBER = count()


def record(
    store: Store, version: str, answers: int, kind: str = "", share: float = 0.0, *, at: datetime, user: str = ""
) -> None:
    """Ended answers, ten seconds apart, of a person each; a share of them is bad in one way."""
    with_thumbs = kind in ("", "thumbs")
    rows: list[Interaction | InteractionAnswer | FeedbackRow] = []
    for number in range(answers):
        bad = int((number + 1) * share) > int(number * share)
        identifier, ended = f"{version}-{next(NUMBER)}", at + timedelta(seconds=10 * number)
        failed = bad and kind == "errors"
        row = Interaction(
            id=identifier,
            user=user or identifier,
            endpoint="chat",
            state="upstream_error" if failed else "complete",
            policy="full",
            consent=False,
            model=version,
            route="",
            writer="w",
            created=ended,
            touched=ended,
            finished=ended + timedelta(seconds=9 if bad and kind == "latency" else 1 + 0.001 * number),
        )
        text = "I'm sorry, but I cannot help." if bad and kind == "refusals" else "The sky."
        rows += [row] if failed else [row, InteractionAnswer(interaction_id=identifier, number=0, text=text)]
        if with_thumbs:
            said = "down" if bad else "up"
            rows.append(FeedbackRow(interaction_id=identifier, answer=0, thumbs=said, at=ended))
    for kind_of in (Interaction, InteractionAnswer, FeedbackRow):
        of = [row for row in rows if isinstance(row, kind_of)]
        store.write(lambda session, of=of: session.add_all(of))


class World:
    """v1.1 was promoted after v1.0 had answered 300 people."""

    def __init__(self, store: Store, folder: Path) -> None:
        for number in range(3):
            add(store, fake_model(folder / f"m{number}", number), models_dir=folder / "models", who="ann")
        self.store = store
        promote(store, "v1.0", reason="first", who="ann")
        record(store, "v1.0", 300, at=datetime.now(UTC) - timedelta(hours=2))
        promote(store, "v1.1", reason="better", who="ann")
        self.clock = Clock(datetime.now(UTC) + timedelta(hours=1))
        self.recording = Recording(store, self.clock)
        self.silent = ""
        self.asked: list[str] = []
        self.automatic = AutomaticRollback(self.recording.recorder, FIELDS, self.no_answer_reason, clock=self.clock)

    def record(self, answers: int, kind: str = "", share: float = 0.0, **values: str) -> None:
        record(self.store, "v1.1", answers, kind, share, at=self.clock.now, **values)

    async def no_answer_reason(self, version: str) -> str:
        self.asked.append(version)
        return self.silent

    def check(self) -> list[str]:
        return asyncio.run(self.automatic.check())

    @property
    def production(self) -> str:
        return find(self.store, "production").name


@pytest.fixture
def world(sqlite_store: Store, tmp_path: Path) -> World:
    return World(sqlite_store, tmp_path)


@pytest.mark.parametrize(
    ("kind", "share", "said"),
    [
        ("errors", 0.3, "errors: 30.0% of 200, v1.0 0.0% of 300; increase at least "),
        ("latency", 0.3, "latency: 30.0% of 200 took longer than 2.59 s, which is 2 times the 95th percentile of v1.0"),
        ("refusals", 0.4, "refusals: 40.0% of 200, v1.0 0.0% of 300; increase at least "),
        ("thumbs", 0.4, "thumbs down: 40.0% of 200, v1.0 0.0% of 300; increase at least "),
    ],
)
def test_each_figure_triggers_it(store: Store, tmp_path: Path, kind: str, share: float, said: str) -> None:
    world = World(store, tmp_path)
    assert world.check() == ["v1.1 is compared with 300 answers of v1.0, and rolled back if worse"]
    world.record(200, kind, share)
    (line,) = world.check()
    assert line.startswith(f"rolled back from v1.1 to v1.0: worse than v1.0: {said}")
    assert world.production == find(store, "previous").name == "v1.0"
    last = moves(store)[-1]
    assert (last.alias, last.before, last.version, last.action) == ("production", "v1.1", "v1.0", "rollback")
    assert (last.who, last.reason) == (AUTOMATON, line.partition(": ")[2])
    assert world.check() == [], "once"


def test_little_traffic_one_client_and_small_increases_move_nothing(world: World) -> None:
    world.record(79, "errors", 1.0)
    world.record(300, "errors", 1.0, user="one busy client")
    assert len(world.check()) == 1
    assert world.check() == [], "79 people, and 20 answers of one more, of 100"
    assert (world.asked, world.production) == ([], "v1.1")


def test_an_engine_that_was_down_is_one_failure(world: World) -> None:
    world.record(200, "errors", 0.5)
    assert world.check()[-1].startswith("rolled back"), "as many failures, one here and one there"
    promote(world.store, "v1.2", reason="next", who="ann")
    world.check()
    for answers, share in ((150, 0.0), (150, 1.0), (100, 0.0), (50, 1.0), (100, 0.0)):
        record(world.store, "v1.2", answers, "errors", share, at=world.clock.now)
        world.clock.now += timedelta(hours=1)
    assert (world.check(), world.production) == ([], "v1.2")


def test_a_version_that_fails_nearly_always_needs_no_more_answers_than_another(world: World) -> None:
    world.record(100, "errors", 0.9)
    assert world.check()[-1].startswith("rolled back from v1.1 to v1.0: worse than v1.0: errors: ")


def test_it_waits_while_the_version_before_does_not_answer_either(world: World) -> None:
    world.silent = "the engine behind v1.0 failed: it cannot be reached"
    world.record(200, "errors", 1.0)
    world.clock.now += timedelta(hours=1)
    (_, line) = world.check()
    assert line.startswith("v1.1 stays, though worse than v1.0: errors: 100.0% of 200, v1.0 0.0% of 300; increase ")
    assert line.endswith(
        f": v1.0 does not answer now either ({world.silent}); what is recorded from now on is compared"
    )
    world.silent = ""
    assert (world.check(), world.production) == ([], "v1.1"), "what was recorded while the engine was down is forgotten"
    world.record(200, "errors", 1.0)
    assert world.check()[-1].startswith("rolled back from v1.1 to v1.0")
    assert world.asked == ["v1.0", "v1.0"]


@pytest.mark.parametrize("state", ["refused", "unreachable", "cancelled"])
def test_what_says_nothing_of_the_version_does_not_count(world: World, state: str) -> None:
    world.record(200, "errors", 1.0)
    of_the_new = update(Interaction).where(Interaction.model == "v1.1")
    world.store.write(lambda session: session.execute(of_the_new.values(state=state)))
    assert (len(world.check()), world.check(), world.production) == (1, [], "v1.1")


def test_an_increase_below_the_margin_moves_nothing_until_its_hours_are_over(world: World) -> None:
    world.record(1000, "errors", 0.04)
    assert len(world.check()) == 1
    assert (world.check(), world.production) == ([], "v1.1")
    world.clock.now += timedelta(hours=24)
    (line,) = world.check()
    assert line.startswith("v1.1 stays: not shown to be worse in 24 hours: errors: 4.0% of 1,000, v1.0 0.0% of 300")
    world.record(2000, "errors", 1.0)
    assert (world.check(), world.production) == ([], "v1.1")


def test_requests_of_a_client_that_names_nobody_count_one_by_one(world: World) -> None:
    world.record(200, "errors", 0.5, user=world.recording.recorder.user_hash(None, None))
    assert "rolled back" in world.check()[-1]


def test_without_answers_of_the_version_before_it_says_so(sqlite_store: Store, tmp_path: Path) -> None:
    world = World(sqlite_store, tmp_path)
    promote(sqlite_store, "v1.2", reason="r", who="ann")
    record(sqlite_store, "v1.2", 300, "errors", 1.0, at=world.clock.now)
    assert world.check() == ["v1.2 is not watched: v1.1 has 0 of 100 recorded answers"]
    assert (world.check(), world.production) == ([], "v1.2")


def test_a_persons_move_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.record(200, "errors", 1.0)

    def moved_meanwhile(*given: object) -> object:
        promote(world.store, "v1.2", reason="mine", who="ann")
        return compare(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("palate.serving.rollback.compare", moved_meanwhile)
        with pytest.raises(UsageError, match=r"production has moved since v1\.1 was promoted"):
            world.check()
    assert (world.production, moves(world.store)[-2].who) == ("v1.2", "ann")


def test_a_version_that_was_rolled_back_is_promoted_by_a_person_only_and_then_stays(world: World) -> None:
    world.record(200, "errors", 1.0)
    assert "rolled back" in world.check()[-1]
    with pytest.raises(UsageError, match=r"v1\.1 was rolled back automatically on .* only a person promotes it again"):
        promote(world.store, "v1.1", reason="cycle 2", who=AUTOMATON)
    promote(world.store, "v1.1", reason="the engine was down", who="ann")
    world.record(200, "errors", 1.0)
    assert (world.check(), world.production) == ([], "v1.1")


def test_a_rollback_is_not_rolled_back(world: World) -> None:
    rollback(world.store, reason="by hand", who="ann")
    record(world.store, "v1.0", 300, "errors", 1.0, at=world.clock.now)
    assert (world.check(), world.production) == ([], "v1.0")


def behaviour(rng: np.random.Generator, size: int, failed: float = 0.02, slow: float = 1.0) -> Behaviour:
    """A version with log-normal times of about 2 s, 10 % refusals and 20 % thumbs down of each third answer."""
    seconds = slow * rng.lognormal(0.7, 0.5, size)
    failures, refusals, downs = rng.random(size) < failed, rng.random(size) < 0.1, rng.random(size // 3) < 0.2
    return Behaviour("v", failures.tolist(), seconds.tolist(), refusals.tolist(), downs.tolist(), size)


def rolled_back(rounds: int, fields: RollbackFields, **worse: float) -> float:
    """How often a version is rolled back; who looks at the end of a confidence sequence sees every look before."""
    rng = np.random.default_rng(0)
    found = [compare(behaviour(rng, 500), behaviour(rng, 500, **worse), fields) for _ in range(rounds)]
    return sum(any(lines.values()) for lines in found) / rounds


def test_equal_versions_are_rolled_back_in_at_most_5_percent_and_bad_ones_nearly_always() -> None:
    strict = RollbackFields(errors=1e-6, latency_p95=1e-6, refusals=1e-6, thumbs_down=1e-6)
    assert rolled_back(100, strict) <= 0.05, "not even without margins"
    assert rolled_back(20, RollbackFields(), failed=0.3) >= 0.9
    assert rolled_back(20, RollbackFields(), slow=4.0) >= 0.9


class Shelf(StoreRegistry):
    """The real registry; v1.1 fails every request, but the smoke prompts."""

    away: str = ""
    """A version whose engine cannot be reached."""

    def load(self, name: str, version: str) -> tuple[Backend, Path]:
        found = resolve(self._store, version)
        if found.name == self.away:
            raise EngineError("it is away")
        return Failing(found.name, content_hash=found.content_hash), found.folder


class Failing(Fake):
    """Fails for requests of people if it is v1.1."""

    async def events(self, endpoint, body):  # type: ignore[no-untyped-def]
        self.error = (
            ApiError(502, "it failed") if self.version == "v1.1" and body["messages"] == ASK["messages"] else None
        )
        async for chunk in super().events(endpoint, body):
            yield chunk


def make_gateway(store: Store) -> Gateway:
    """A gateway of production that may roll back after 20 answers."""
    fields = ServeFields(
        models={"m": {"alias": "production"}},  # type: ignore[dict-item]
        record="full",
        poll_seconds=0.02,
        rollback=RollbackFields(at_least=20),
    )
    shelf = Shelf(store, fields)
    backend, at = shelf.load("m", "production")
    return Gateway(store, fields, Models({"m": Served("m", LoadedVersion(backend), "production", at)}, shelf))


def test_the_gateway_rolls_back_and_serves_the_version_before(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("palate.serving.app._COMPARE_SECONDS", 0.05)
    for number in range(2):
        add(sqlite_store, fake_model(tmp_path / f"m{number}", number), models_dir=tmp_path / "models", who="t")
    promote(sqlite_store, "v1.0", reason="first", who="t")
    gateway = make_gateway(sqlite_store)
    shelf = gateway._models._registry
    assert isinstance(shelf, Shelf)
    with running(gateway.app) as url, httpx2.Client(base_url=url, timeout=30) as api:

        def ask() -> httpx2.Response:
            return api.post("/v1/chat/completions", json=ASK)

        assert {ask().json()["model"] for _ in range(30)} == {"v1.0"}
        shelf.away = "v1.0"
        promote(sqlite_store, "v1.1", reason="better", who="t")
        eventually(lambda: ask().status_code == 502)
        eventually(lambda: ask().status_code == 502 and "does not answer now either (it is away)" in caplog.text)
        assert find(sqlite_store, "production").name == "v1.1"
        shelf.away = ""
        eventually(lambda: ask().is_success)  # each failure is one more answer
        assert ask().json()["model"] == "v1.0"
    last = moves(sqlite_store)[-1]
    assert (last.version, last.before, last.action, last.who) == ("v1.0", "v1.1", "rollback", AUTOMATON)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[3]]
import palate.registry.aliases as aliases
import asyncio
import palate.serving.rollback as automatic
from palate.registry.behaviour import RollbackFields
from palate.store import open_store
from recorded import Recording
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "inside":
    aliases.end_canary = die  # the alias has moved, and nothing is committed
else:
    moved = automatic.rollback
    automatic.rollback = lambda *given, **named: die(moved(*given, **named))
from datetime import UTC, datetime, timedelta
async def answers(version):
    return ""
def clock():
    return datetime.now(UTC) + timedelta(hours=2)
recorder = Recording(open_store(sys.argv[1])).recorder
asyncio.run(automatic.AutomaticRollback(recorder, RollbackFields(at_least=100), answers, clock=clock).check())
print("not killed")
"""


def test_killed_during_the_switch_a_gateway_serves_exactly_one_valid_version(
    store_address: str, tmp_path: Path
) -> None:
    store = open_store(store_address)
    world = World(store, tmp_path)

    def kill(where: str) -> None:
        command = [sys.executable, "-c", KILLED, store_address, where, str(Path(__file__).parents[1])]
        died = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert died.returncode == -signal.SIGKILL, died.stdout + died.stderr
        assert find(store, "previous").name == "v1.0"

    world.record(200, "errors", 1.0)
    kill("inside")
    assert (world.production, moves(store)[-1].action) == ("v1.1", "promote"), "nothing of the move is there"
    with running(make_gateway(store).app) as url:  # the next gateway looks again, and ends what was begun
        assert eventually(lambda: httpx2.get(f"{url}/v1/models/m").json()["root"] == "v1.0")
    promote(store, "v1.2", reason="better", who="ann")
    record(store, "v1.2", 200, "errors", 1.0, at=world.clock.now)
    kill("after")
    assert (world.production, moves(store)[-1].action) == ("v1.0", "rollback")
    with running(make_gateway(store).app) as url:
        assert httpx2.get(f"{url}/v1/models/m").json()["root"] == "v1.0"
    store.close()
