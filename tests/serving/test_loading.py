"""From settings to served models: versions of the registry, and the switch to the next one."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from gateways import ASK, eventually, rows, states
from palate.errors import PalateError
from palate.registry import add, find, promote, set_canary
from palate.serving.app import Gateway
from palate.serving.loading import open_models
from palate.serving.settings import ServedModelFields, ServeFields
from palate.store import Store
from sites import running
from tiny import save_tiny


def test_an_alias_moves_while_it_serves(tmp_path: Path, sqlite_store: Store) -> None:
    names = [
        add(
            sqlite_store, save_tiny(tmp_path / f"m{seed}", seed=seed), models_dir=tmp_path / "kept", who="t"
        ).version.name
        for seed in (1, 2)
    ]
    promote(sqlite_store, names[0], reason="first", who="t")
    models = {"chat": ServedModelFields(alias="production", precision="fp32")}
    settings = ServeFields(models=models, poll_seconds=0.1, record="metadata")
    said: list[str] = []
    gateway = Gateway(sqlite_store, settings, open_models(settings, sqlite_store, said.append))
    with running(gateway.app) as url:

        def version() -> str:
            reply = httpx2.post(
                f"{url}/v1/chat/completions", json={**ASK, "model": "chat", "max_tokens": 1}, timeout=60
            )
            assert reply.status_code == 200
            return str(reply.json()["model"])

        assert version() == names[0]
        set_canary(sqlite_store, names[1], 1.0, reason="try", who="t")
        eventually(lambda: version() == names[1], 60)
        set_canary(sqlite_store, names[1], 0.0, reason="enough", who="t")
        eventually(lambda: version() == names[0], 60)
        promote(sqlite_store, names[1], reason="second", who="t")
        eventually(lambda: version() == names[1], 60)
        # A version that was damaged is not taken over.
        (find(sqlite_store, names[0]).folder / "config.json").write_text("{}")
        with pytest.raises(PalateError):
            promote(sqlite_store, names[0], reason="back", who="t")
        assert version() == names[1]
    assert said == ["loading production"]
    assert set(states(sqlite_store, 3)) == {"complete"}
    assert len({row.identity for row in rows(sqlite_store)}) == 2
