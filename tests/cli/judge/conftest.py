"""An endpoint, a store of its own, and no waiting."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from chat_server import ChatServer


@pytest.fixture
def endpoint(httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    """An endpoint that judges over the API use by default."""
    server = ChatServer(httpserver)
    monkeypatch.setenv("PALATE_BASE_URL", server.url)
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    monkeypatch.setenv("PALATE_API_KEY", "CANARY-123")
    return server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited for before requests were sent again; nothing is waited for."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found
