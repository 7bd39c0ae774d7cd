"""A server that others reach has accounts, or does not start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from palate.errors import UsageError
from palate.store import Store, open_store
from palate.web.app import create_app
from palate.web.security import accounts
from palate.web.security.exposure import check_exposure, works_without_accounts
from palate.web.settings import Settings, utc_now
from sites import make_site, password_hash


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "palate.db"))
    yield opened
    opened.close()


def add(store: Store, name: str = "anna", stored: str | None = None) -> None:
    now, chosen = utc_now(), password_hash() if stored is None else stored
    store.write(lambda session: accounts.add_account(session, name, chosen, "admin", now))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "label.example.org"])
def test_others_reach_it_only_with_accounts(store: Store, host: str) -> None:
    for local in (False, True):
        with pytest.raises(UsageError) as refused:
            check_exposure(Settings(host=host, local=local), store)
        assert str(refused.value) == (
            f"--host {host}: other machines reach this address, and nobody has an account; add one with "
            "palate label users add NAME --role admin"
        )
        with pytest.raises(UsageError):
            create_app(store, Settings(host=host, local=local))
    add(store)
    check_exposure(Settings(host=host), store)
    with pytest.raises(UsageError, match="people must log in"):
        check_exposure(Settings(host=host, local=True), store)


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        (Settings(names=("label.example.org",)), "--name label.example.org: others reach this server by that name"),
        (Settings(https=True), "--https: others reach this server through a proxy"),
    ],
)
def test_a_proxy_in_front_of_loopback_needs_accounts_too(store: Store, settings: Settings, start: str) -> None:
    with pytest.raises(UsageError, match=f"{start}, and nobody has an account"):
        check_exposure(settings, store)
    add(store)
    check_exposure(settings, store)
    with pytest.raises(UsageError, match="people must log in"):
        check_exposure(replace(settings, local=True), store)


def test_an_account_that_nobody_can_log_in_to_does_not_count(store: Store) -> None:
    settings = Settings(host="0.0.0.0")
    store.write(lambda session: accounts.local_person(session, utc_now()))
    add(store, "anna", stored="")
    with pytest.raises(UsageError):
        check_exposure(settings, store)
    add(store, "ben")
    store.write(lambda session: accounts.set_active(session, "ben", active=False))
    with pytest.raises(UsageError):
        check_exposure(settings, store)


def test_loopback_needs_no_account_until_there_is_one(store: Store) -> None:
    check_exposure(Settings(local=True), store)
    assert works_without_accounts("127.0.0.1", store)
    assert not works_without_accounts("0.0.0.0", store)
    add(store)
    assert not works_without_accounts("127.0.0.1", store)


def test_the_local_person_is_the_same_after_a_restart(tmp_path: Path) -> None:
    first = make_site(tmp_path, local=True)
    first.store.close()
    second = make_site(tmp_path, local=True)
    assert second.app.state.palate.local == first.app.state.palate.local
    assert second.app.state.palate.local.role == "admin"
    second.store.close()
