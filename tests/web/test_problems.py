"""Failed requests: a page for a browser, JSON for a script, no traceback, and no more than a person should know."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import APIRouter

from palate.errors import DataError, EngineError, StoreError, UsageError
from palate.web.security.people import Anyone
from sites import Site, csrf

PAGE = {"Accept": "text/html,application/xhtml+xml"}

FAILURES: dict[str, Callable[[], Exception]] = {
    "bug": lambda: ZeroDivisionError("secret inside"),
    "store": lambda: StoreError("/private/palate.db: the disk is full"),
    "usage": lambda: UsageError("there is no campaign x"),
    "data": lambda: DataError("/private/file.jsonl:3: is no vote"),
    "engine": lambda: EngineError("http://10.0.0.5:8000/v1 does not answer"),
}


@pytest.fixture
def broken(site: Site) -> Site:
    router = APIRouter(dependencies=[Anyone])

    @router.get("/fail/{kind}")
    def fail(kind: str, number: int = 0) -> None:
        raise FAILURES[kind]()

    site.app.include_router(router)
    return site


@pytest.mark.parametrize(
    ("path", "status", "title", "line"),
    [
        ("/nothing", 404, "There is no such page", "The address is wrong"),
        ("/fail/bug", 500, "Internal error", "Nothing that was recorded before is lost"),
        ("/fail/store", 503, "The database does not answer", "Try again in a moment"),
        ("/fail/usage", 400, "This request is not valid", "there is no campaign x"),
        ("/fail/data", 500, "Internal error", "The server&#39;s terminal shows what went wrong"),
        ("/fail/engine", 500, "Internal error", "Nothing that was recorded"),
        ("/fail/bug?number=x", 422, "This form is incomplete", "number: Input should be a valid integer"),
    ],
)
def test_pages_and_json(broken: Site, path: str, status: int, title: str, line: str) -> None:
    client = broken.client("annotator")
    page = client.get(path, headers=PAGE)
    assert page.status_code == status
    assert f"<h1>{title}</h1>" in page.text
    assert line in page.text
    assert "frame-ancestors" in page.headers["content-security-policy"]
    script = client.get(path)
    assert script.status_code == status
    assert list(script.json()) == ["error"]
    for text in (page.text, script.text):
        assert "Traceback" not in text
        assert "secret inside" not in text
        assert "/private" not in text
        assert "10.0.0.5" not in text


def test_the_operator_reads_what_the_person_does_not(broken: Site, caplog: pytest.LogCaptureFixture) -> None:
    broken.client().get("/fail/store")
    assert "/private/palate.db: the disk is full" in caplog.text


@pytest.mark.parametrize(
    ("headers", "is_page"),
    [
        ({"Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, False),
        ({"Accept": "text/html"}, True),
        ({"Accept": "text/html", "HX-Request": "true"}, False),
        ({"Accept": "application/json"}, False),
        ({}, False),
    ],
)
def test_who_gets_a_page(site: Site, headers: dict[str, str], is_page: bool) -> None:
    found = site.client().get("/nothing", headers=headers)
    assert found.headers["content-type"].startswith("text/html" if is_page else "application/json")


def test_other_methods(site: Site) -> None:
    found = site.client("admin").delete("/account", headers=csrf(site, site.client("admin")))
    assert found.status_code == 403  # the token of another login
    client = site.client("admin")
    found = client.delete("/account", headers=csrf(site, client))
    assert (found.status_code, found.json()) == (405, {"error": "This address takes other kinds of requests only."})
