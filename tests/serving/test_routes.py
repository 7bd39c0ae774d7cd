"""Shares of a route: as wide as they say, the same for a user, and recorded with their probability."""

from __future__ import annotations

import threading

import httpx2
import pytest

from gateways import ASK, Fake, rows, serving, states, texts
from palate.errors import ConfigError
from palate.serving.problems import ApiError
from palate.serving.routes import share_of
from palate.serving.settings import RouteFields, read_settings
from palate.store import Store

PEOPLE = [f"user-{number}" for number in range(4000)]


def test_shares_are_as_wide_as_they_say_and_stay() -> None:
    route = RouteFields(models={"a": 0.7, "b": 0.3})
    chosen = {person: share_of(route, person) for person in PEOPLE}
    assert 0.27 < sum(model == "b" for model in chosen.values()) / len(PEOPLE) < 0.33  # ± 4 standard errors
    assert chosen == {person: share_of(route, person) for person in PEOPLE}
    other = {person: share_of(RouteFields(models={"a": 0.7, "b": 0.3}, salt="2"), person) for person in PEOPLE}
    both = sum(chosen[person] == other[person] == "b" for person in PEOPLE) / len(PEOPLE)
    assert 0.07 < both < 0.11  # independent: 0.09


def test_a_growing_canary_takes_users_from_the_other_only() -> None:
    small = {p: share_of(RouteFields(models={"production": 0.95, "canary": 0.05}), p) for p in PEOPLE}
    grown = {p: share_of(RouteFields(models={"production": 0.8, "canary": 0.2}), p) for p in PEOPLE}
    assert all(grown[person] == "canary" for person in PEOPLE if small[person] == "canary")
    none = RouteFields(models={"production": 1.0, "canary": 0.0})
    assert {share_of(none, person) for person in PEOPLE} == {"production"}


def test_a_split_is_sticky_and_recorded(sqlite_store: Store) -> None:
    route = {"models": {"m": 0.5, "m1": 0.5}}
    with serving(sqlite_store, Fake("v1"), Fake("v2"), routes={"chat": route}) as url:
        got = {}
        for user in PEOPLE[:8] * 2:
            reply = httpx2.post(f"{url}/v1/chat/completions", json={**ASK, "model": "chat", "user": user}).json()
            got.setdefault(user, set()).add(reply["model"])
        assert all(len(models) == 1 for models in got.values())
        assert set().union(*got.values()) == {"v1", "v2"}
        by_version = httpx2.post(f"{url}/v1/chat/completions", json={**ASK, "model": "v2"}).json()
        assert by_version["model"] == "v2"
        assert [model["id"] for model in httpx2.get(f"{url}/v1/models").json()["data"]] == ["chat", "m", "m1"]
        assert httpx2.post(f"{url}/v1/chat/completions", json={"messages": ASK["messages"]}).status_code == 400
    states(sqlite_store, 17)
    found = rows(sqlite_store)
    assert {(row.route, row.probability) for row in found} == {("chat", 0.5), ("", 1.0)}
    assert {row.user for row in found if row.route} != {found[0].user}


def test_a_shadow_is_recorded_and_neither_sent_nor_waited_for(sqlite_store: Store) -> None:
    answered = threading.Event()
    slow, broken = Fake("v2", words=("Shadow",), wait=answered), Fake("v3", error=ApiError(502, "broken"))
    route = {"models": {"m": 1.0}, "shadow": ["m1", "m2"]}
    with serving(sqlite_store, Fake("v1"), slow, broken, routes={"chat": route}) as url:
        reply = httpx2.post(f"{url}/v1/chat/completions", json={**ASK, "model": "chat"})
        assert "Shadow" not in reply.text
        answered.set()
        httpx2.post(f"{url}/v1/chat/completions", json={**ASK, "model": "chat", "store": False})
        states(sqlite_store, 3)
    found = {row.route: row for row in rows(sqlite_store)}
    assert {route: (row.model, row.state) for route, row in found.items()} == {
        "chat": ("v1", "complete"),
        "shadow:m1": ("v2", "complete"),
        "shadow:m2": ("v3", "upstream_error"),
    }
    assert texts(sqlite_store, found["shadow:m1"].id) == ["Shadow"]
    assert len({row.user for row in found.values()}) == 1


def test_serve_yaml(tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "serve.yaml"
    file.write_text("""models:
  small: {model: runs/small}
  big: {upstream: "http://127.0.0.1:9000/v1", upstream_model: Qwen/Qwen3-8B}
routes:
  chat: {models: {small: 0.9, big: 0.1}, shadow: [big]}
port: 9001
""")
    settings = read_settings(file, {"port": 9002})
    assert (settings.port, settings.models["big"].upstream_model) == (9002, "Qwen/Qwen3-8B")
    wrong = {
        "models: {a: {model: x, upstream: 'http://h/v1'}}\n": r"serve.yaml:1: models.a: .*exactly one",
        "models: {a: {model: x}}\nprot: 1\n": r"serve.yaml:2: prot: ",
        "models: {a: {model: x}}\nroutes: {r: {models: {a: 0.5}}}\n": r"add up to 1, not 0.5",
        "models: {a: {model: x}}\nroutes: {r: {models: {b: 1}}}\n": r"r: b is not one of the models a",
        "models: {a: {upstream: 'http://me:SECRET-99@host/v1'}}\n": r"holds a secret",
    }
    for text, message in wrong.items():
        file.write_text(text)
        with pytest.raises(ConfigError, match=message) as refused:
            read_settings(file, {})
        assert "SECRET-99" not in str(refused.value)
