"""Apps of `palate.web` over a database in a temporary folder, with people, clients that are logged in, and a server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.testclient import TestClient

from palate.store import Store, open_store
from palate.web.app import create_app
from palate.web.security import accounts, sessions
from palate.web.security.accounts import ROLES, Role
from palate.web.security.tokens import token_of
from palate.web.settings import Settings

PASSWORD = "correct horse battery"
HOST = "127.0.0.1:8000"


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""argon2 in a millisecond; the real one takes half a second on a busy machine, which is its purpose."""


@cache
def password_hash() -> str:
    """Of PASSWORD."""
    return QUICK_HASHER.hash(PASSWORD)


@dataclass
class Site:
    """An app with an account for each role, whose name is the role."""

    app: FastAPI
    store: Store
    settings: Settings
    clock: Clock
    people: Mapping[str, accounts.Person] = field(default_factory=dict)

    def client(self, name: str | None = None, address: str = "testclient") -> TestClient:
        """A browser on the pages, logged in as `name`, or a visitor. Errors of the app are responses."""
        client = TestClient(
            self.app,
            base_url=f"http://{HOST}",
            raise_server_exceptions=False,
            follow_redirects=False,
            client=(address, 50000),
        )
        if name is not None:
            token = sessions.new_token()
            self.store.write(
                lambda session: sessions.open_login(session, self.people[name].id, token, now=self.clock(), hours=12)
            )
            client.cookies.set(self.settings.session_cookie, token, domain="127.0.0.1")
        return client


def make_site(folder: Path, *, local: bool = False, roles: tuple[Role, ...] = ROLES, **settings: Any) -> Site:
    """A new database in a folder, and its app."""
    clock = Clock()
    store = open_store(str(folder / "palate.db"))
    chosen = Settings(local=local, clock=clock, **settings)
    people = {}
    if not local:
        for role in roles:
            people[role] = store.write(
                lambda session, role=role: accounts.add_account(session, role, password_hash(), role, clock())
            )
    return Site(create_app(store, chosen), store, chosen, clock, people)


def csrf(site: Site, client: TestClient) -> dict[str, str]:
    """The header with the token that the client's pages have."""
    cookie = client.cookies.get(site.settings.session_cookie) or client.cookies.get(site.settings.visitor_cookie)
    return {"X-CSRF-Token": token_of(cookie)} if cookie else {}


def raw_get(app: FastAPI, target: str, cookies: str = "", method: str = "GET") -> tuple[int, bytes]:
    """Status and body of a request whose path is sent byte by byte: no client tidies up `..` or `%2e`."""
    path, _, query = target.partition("?")
    messages: list[Any] = []
    headers = [(b"host", HOST.encode()), (b"accept", b"text/html")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode("utf-8", "replace"),
        "root_path": "",
        "headers": [*headers, (b"cookie", cookies.encode())] if cookies else headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    try:
        asyncio.run(app(scope, receive, send))
    except Exception:
        # The response of an unexpected error is sent before the error is raised again.
        if not messages:
            raise
    start = next(message for message in messages if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
    return start["status"], body


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port of loopback; gives the address without a slash at its end."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        if time.monotonic() > end or not thread.is_alive():
            raise RuntimeError("the server has not started")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


class Structure(HTMLParser):
    """Tags and names of attributes of a page, in order; equal for two pages that differ in their texts only."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data
