"""A site with all pages and an account for each role, for the tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from palate.web.security import passwords
from sites import QUICK_HASHER, Site, make_site


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Passwords are hashed and checked in a moment."""
    passwords.hash_of_nobody.cache_clear()
    monkeypatch.setattr(passwords, "_HASHER", QUICK_HASHER)
    yield
    passwords.hash_of_nobody.cache_clear()


@pytest.fixture
def real_passwords(quick_passwords: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are hashed and checked as palate does it."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, runs=(tmp_path / "runs",))
    yield made
    made.store.close()


@pytest.fixture
def local_site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, local=True, runs=(tmp_path / "runs",))
    yield made
    made.store.close()
