"""The database that `--store` or PALATE_STORE names, as SQLAlchemy's URL and as messages show it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from palate.errors import StoreError

DEFAULT_URL = "sqlite:///palate.db"
VARIABLE = "PALATE_STORE"

_FORMS = "write sqlite:///FILE.db, a path, or postgresql://USER@HOST/DATABASE"
_SYNCHRONOUS = ("normal", "full")


def store_url(given: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """The URL of `--store`, else of PALATE_STORE, else `palate.db` in the current folder. A path is a SQLite file."""
    url = (given or "").strip() or environment.get(VARIABLE, "").strip() or DEFAULT_URL
    return url if "://" in url else URL.create("sqlite", database=url).render_as_string()


def parse_url(url: str) -> URL:
    """The database's address; a SQLite file's path is expanded (`~`).

    Raises:
        StoreError: the URL is wrong, or of a database that palate does not work with. The message has no password.
    """
    try:
        place = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"--store {_redacted(url)}: not a URL of a database; {_FORMS}") from error
    backend = place.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return place.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(f"--store: {backend} is not supported; {_FORMS}")
    if place.host:
        raise StoreError(f"--store {_redacted(url)}: a SQLite file has three slashes, four if its path is absolute")
    if not place.database or place.database == ":memory:":
        raise StoreError("--store: SQLite needs a file, which threads and processes share; write sqlite:///FILE.db")
    for name, value in place.query.items():
        if name != "synchronous" or value not in _SYNCHRONOUS:
            raise StoreError(f"--store: {name}={value} is not an option; SQLite has ?synchronous=normal or full")
    return place.set(drivername="sqlite", database=str(Path(place.database).expanduser()))


def shown_url(place: URL) -> str:
    """The URL as messages show it: without password and options, which may hold one. A SQLite database is its file."""
    if place.get_backend_name() == "sqlite":
        return place.database or ""
    return URL.create("postgresql", place.username, None, place.host, place.port, place.database).render_as_string()


def without_password(text: str, place: URL) -> str:
    """A driver's message as one line, without the password if it repeats it."""
    line = " ".join(text.split())
    secrets = [place.password, *(value for name, value in place.query.items() if "password" in name)]
    for secret in secrets:
        if isinstance(secret, str) and secret:
            line = line.replace(secret, "***")
    return line


def _redacted(url: str) -> str:
    """A URL that could not be parsed; what may be a password is left out."""
    scheme, _, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}://{'***@' if at else ''}{place.partition('?')[0]}"
