"""Every route for every kind of caller; hosts, origins and sizes; limits of keys."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

import palate
from gateways import ASK, Fake, eventually, make_gateway
from palate.errors import StoreError, UsageError
from palate.network.roles import route_roles
from palate.serving.access import ROLES, Access
from palate.serving.keys import KeyTerms, create_key, find_key, hash_key, list_keys, revoke_key
from palate.store import Store
from palate.store.serving_tables import ApiKey

NOW = datetime(2026, 5, 4, tzinfo=UTC)
ROUTES = {
    ("POST", "/v1/chat/completions"): "key",
    ("POST", "/v1/completions"): "key",
    ("POST", "/v1/responses"): "key",
    ("GET", "/v1/models"): "key",
    ("GET", "/v1/models/{name:path}"): "key",
    ("GET", "/metrics"): "key",
    ("GET", "/health"): "anonymous",
    ("GET", "/health/ready"): "anonymous",
    ("POST", "/v1/feedback"): "anonymous",  # the signed token of a completion allows it
}


def new_key(store: Store, name: str = "app", **terms: object) -> str:
    return store.write(lambda session: create_key(session, name, KeyTerms(**terms), NOW))  # type: ignore[arg-type]


def browser(store: Store, base: str = "http://127.0.0.1:8000", **settings: object) -> TestClient:
    return TestClient(make_gateway(store, {"m": Fake()}, **settings).app, base_url=base, raise_server_exceptions=False)


def test_every_route_for_every_caller(store: Store) -> None:
    key, revoked = new_key(store), new_key(store, "old")
    store.write(lambda session: revoke_key(session, "old"))
    with browser(store) as web:
        assert route_roles(web.app, ROLES) == ROUTES  # type: ignore[arg-type]
        wrong = ["", "Bearer ", f"Bearer {key}x", f"Basic {key}", f"Bearer {revoked}", "Bearer " + "x" * 5000]
        for (method, path), role in ROUTES.items():
            address = path.replace("{name:path}", "m")
            for authorization in wrong:
                reply = web.request(method, address, headers={"Authorization": authorization}, json={})
                assert (reply.status_code == 401) == (role == "key"), (method, path, authorization)
            allowed = web.request(method, address, headers={"Authorization": f"Bearer {key}"}, json={})
            assert allowed.status_code not in (401, 403, 404, 405, 500) or path == "/v1/feedback", (path, allowed.text)
        assert web.get("/v1/other", headers={"Authorization": f"Bearer {key}"}).status_code == 404


def test_beyond_loopback_only_with_keys(sqlite_store: Store) -> None:
    for settings in ({"host": "0.0.0.0"}, {"names": ("api.example.org",)}, {"https": True}):
        with pytest.raises(UsageError, match="there is no API key; make one with palate keys create"):
            make_gateway(sqlite_store, {"m": Fake()}, **settings)
    new_key(sqlite_store)
    make_gateway(sqlite_store, {"m": Fake()}, host="0.0.0.0")


def test_a_key_is_in_no_file_and_found_by_its_hash(tmp_path: Path, sqlite_store: Store) -> None:
    key = new_key(sqlite_store, "web", requests_per_minute=3)
    found = sqlite_store.read(lambda session: find_key(session, hash_key(key)))
    assert found is not None
    assert (found.name, found.requests_per_minute) == ("web", 3)
    assert not any(key.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    with pytest.raises(UsageError, match="there is a key web already"):
        new_key(sqlite_store, "web")
    with pytest.raises(UsageError, match="there is no key webb"):
        sqlite_store.write(lambda session: revoke_key(session, "webb"))


def test_requests_and_tokens_of_a_key_are_limited(sqlite_store: Store) -> None:
    few, little = (
        new_key(sqlite_store, "few", requests_per_minute=2),
        new_key(sqlite_store, "little", tokens_per_day=10),
    )
    with browser(sqlite_store) as web:
        statuses = [web.post("/v1/chat/completions", json=ASK, headers=bearer(few)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        statuses = [web.post("/v1/chat/completions", json=ASK, headers=bearer(little)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]  # eight tokens each
        over = web.post("/v1/chat/completions", json=ASK, headers=bearer(little))
        assert over.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(over.headers["retry-after"]) <= 86_400
        key = eventually(lambda: next(k for k in sqlite_store.read(list_keys) if k.name == "few" and k.last_used))
        assert key.last_used is not None


def test_tokens_of_a_day_outlive_the_process_and_are_counted_together(store: Store) -> None:
    key = new_key(store, "little", tokens_per_day=20)
    ask = {"json": ASK, "headers": bearer(key)}
    with browser(store) as one:
        assert one.post("/v1/chat/completions", **ask).status_code == 200  # eight tokens each
    with browser(store) as one, browser(store) as other:
        assert [web.post("/v1/chat/completions", **ask).status_code for web in (one, other)] == [200, 200]
    (row,) = store.read(list_keys)
    assert row.used_tokens == 24
    with browser(store) as one:
        assert one.post("/v1/chat/completions", **ask).status_code == 429
    assert row.used_day is not None
    yesterday = update(ApiKey).values(used_day=row.used_day - 1)
    store.write(lambda session: session.execute(yesterday))
    with browser(store) as one:
        assert one.post("/v1/chat/completions", **ask).status_code == 200
    (row,) = store.read(list_keys)
    assert row.used_tokens == 8


def test_tokens_are_stored_while_it_serves(sqlite_store: Store) -> None:
    key = new_key(sqlite_store, tokens_per_day=1000)
    with browser(sqlite_store) as web:
        for total in (8, 16):
            assert web.post("/v1/chat/completions", json=ASK, headers=bearer(key)).status_code == 200
            assert eventually(lambda total=total: sqlite_store.read(list_keys)[0].used_tokens == total)


def test_tokens_of_many_requests_are_stored_together_and_kept_while_the_database_is_away(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key(sqlite_store, tokens_per_day=1000)
    access = Access(sqlite_store, needed=True, anonymous=KeyTerms())
    tries: list[Callable[..., object]] = []

    def away(store: Store, work: Callable[..., object]) -> None:
        tries.append(work)
        raise StoreError("the database is locked")

    async def ask() -> None:
        caller = await access.caller(f"Bearer {key}")
        with monkeypatch.context() as patched:
            patched.setattr(Store, "write", away)
            await asyncio.gather(*(access.add_tokens(caller, 1) for _ in range(20)))
        await access.add_tokens(caller, 1)
        await asyncio.gather(*access._notes)

    asyncio.run(ask())
    assert sum(work.__qualname__.startswith("Access.save") for work in tries) <= 2
    assert sqlite_store.read(list_keys)[0].used_tokens == 21


def test_a_revoked_key_stops_working_soon(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serving.access._REMEMBERED_SECONDS", 0.0)
    key = new_key(sqlite_store)
    with browser(sqlite_store) as web:
        assert web.get("/v1/models", headers=bearer(key)).status_code == 200
        sqlite_store.write(lambda session: revoke_key(session, "app"))
        assert web.get("/v1/models", headers=bearer(key)).status_code == 401


def test_guessed_keys_do_not_fill_the_memory(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serving.access._MOST_REMEMBERED", 5)
    new_key(sqlite_store)
    gateway = make_gateway(sqlite_store, {"m": Fake()})
    access: Access = gateway.app.state.access
    with TestClient(gateway.app, base_url="http://127.0.0.1") as web:
        for number in range(12):
            assert web.get("/v1/models", headers=bearer(f"guess-{number}")).status_code == 401
    assert len(access._known) <= 5


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:8000"}, 403),
        ({"Host": "LOCALHOST:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": ""}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://ui.example"}, 200),
        ({"Content-Type": "text/plain"}, 415),  # what a web page may send without asking
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Length": "99999999"}, 413),
    ],
)
def test_requests_from_elsewhere(sqlite_store: Store, headers: dict[str, str], status: int) -> None:
    with browser(sqlite_store, origins=("https://ui.example",)) as web:
        reply = web.post(
            "/v1/chat/completions",
            content=httpx2.Request("POST", "http://x", json=ASK).content,
            headers={"Content-Type": "application/json", **headers},
        )
        assert reply.status_code == status
        if status != 200:
            assert reply.json()["error"]["message"]
        allowed = reply.headers.get("access-control-allow-origin")
        assert allowed == ("https://ui.example" if headers.get("Origin") == "https://ui.example" else None)


def test_no_web_page_is_allowed_by_default(sqlite_store: Store) -> None:
    with browser(sqlite_store) as web:
        asked = {"Origin": "https://ui.example", "Access-Control-Request-Method": "POST"}
        assert web.options("/v1/chat/completions", headers=asked).status_code == 403


def test_a_body_that_is_too_large_is_not_read_to_its_end(sqlite_store: Store) -> None:
    sent = 0

    def endless() -> object:
        nonlocal sent
        for _ in range(1000):
            sent += 1000
            yield b" " * 1000

    with browser(sqlite_store, max_body_bytes=5000) as web:
        reply = web.post("/v1/chat/completions", content=endless(), headers={"Content-Type": "application/json"})  # type: ignore[arg-type]
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")


def test_middleware_is_pure_asgi() -> None:
    """starlette's own base class hides that a client has gone."""
    sources = [
        file for part in ("serving", "web") for file in Path(palate.__file__).parent.joinpath(part).rglob("*.py")
    ]
    assert len(sources) > 40
    assert not [file for file in sources if "BaseHTTPMiddleware" in file.read_text(encoding="utf-8")]


def test_no_torch_in_front_of_engines(tmp_path: Path) -> None:
    program = """
import sys
from palate.serving.app import Gateway
from palate.serving.loading import open_models
from palate.serving.settings import ServeFields
from palate.store import open_store
store = open_store(sys.argv[1])
settings = ServeFields(models={"m": {"upstream": "http://127.0.0.1:1/v1"}})
Gateway(store, settings, open_models(settings, store, print))
import palate.cli.main, palate.registry.versions, palate.serving.backends.adapter
print(sorted({"torch", "transformers"} & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "palate.db")], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
