"""Which database `--store` and PALATE_STORE name, and what messages show of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from palate.errors import StoreError
from palate.store.urls import parse_url, shown_url, store_url, without_password


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        (None, "", "sqlite:///palate.db"),
        ("", "  ", "sqlite:///palate.db"),
        (None, "votes.db", "sqlite:///votes.db"),
        ("mine.db", "votes.db", "sqlite:///mine.db"),
        ("/data/mine.db", "", "sqlite:////data/mine.db"),
        ("postgresql://me@host/votes", "votes.db", "postgresql://me@host/votes"),
    ],
)
def test_the_option_comes_before_the_variable_and_a_path_is_a_sqlite_file(
    given: str | None, variable: str, expected: str
) -> None:
    assert store_url(given, {"PALATE_STORE": variable}) == expected


def test_a_path_may_have_any_characters() -> None:
    for path in ("a b.db", "100%41.db", "q?a#b.db", "ü/ø.db", "a@b:c.db"):
        assert parse_url(store_url(path, {})).database == path


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_url("sqlite:///~/votes.db").database == f"{tmp_path}/votes.db"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_every_name_of_postgresql_is_opened_by_psycopg(scheme: str) -> None:
    assert parse_url(f"{scheme}://me:secret@host:5433/votes?sslmode=require").render_as_string(False) == (
        "postgresql+psycopg://me:secret@host:5433/votes?sslmode=require"
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://me@host/votes", "--store: mysql is not supported; write sqlite:///FILE.db, a path, or postgresql://"),
        ("://x", "not a URL of a database"),
        ("postgresql://me@host:many/votes", "not a URL of a database"),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("sqlite://votes.db", "has three slashes"),
        ("sqlite:///votes.db?mode=ro", "mode=ro is not an option; SQLite has ?synchronous=normal or full"),
        ("sqlite:///votes.db?synchronous=off", "synchronous=off is not an option"),
    ],
)
def test_other_urls_are_refused_in_one_line(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=re.escape(said)) as found:
        parse_url(url)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:CANARY@host:many/votes",
        "postgresql://me:CANARY@ho st:[/votes?password=CANARY",
        "postgresql://me:p@CANARY@host:x/votes",
        "mysql://me:CANARY@host/votes",
        "sqlite://me:CANARY@host/votes.db",
        "CANARY://://",
    ],
)
def test_no_message_about_a_wrong_url_has_the_password(url: str) -> None:
    with pytest.raises(StoreError) as found:
        parse_url(url)
    assert "CANARY" not in str(found.value).replace("CANARY://", "")


def test_a_url_is_shown_without_password_and_options() -> None:
    place = parse_url("postgresql://me:CANARY@host:5433/votes?password=CANARY&sslpassword=CANARY2")
    assert shown_url(place) == "postgresql://me@host:5433/votes"
    assert without_password("no CANARY2 and\n no CANARY", place) == "no ***2 and no ***"
    assert shown_url(make_url("sqlite:////data/votes.db")) == "/data/votes.db"
