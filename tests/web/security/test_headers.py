"""Every response has the security headers, whoever makes it; the middleware is plain ASGI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import palate.web
from palate.web.app import LARGEST_REQUEST
from sites import HOST, Site, csrf

PAGE = {"Accept": "text/html"}


@pytest.mark.parametrize("path", ["/login", "/nothing", "/account", "/static/style.css", "/static/nothing", "/"])
@pytest.mark.parametrize("headers", [PAGE, {}, {"Host": "evil.example"}])
def test_headers(site: Site, path: str, headers: dict[str, str]) -> None:
    found = site.client("admin").get(path, headers=headers).headers
    policy = dict(part.split(" ", 1) for part in found["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'self'",
        "base-uri": "'none'",
        "object-src": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    assert found["x-content-type-options"] == "nosniff"
    assert found["x-frame-options"] == "DENY"
    assert found["referrer-policy"] == "same-origin"
    assert found["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in found
    if not path.startswith("/static/"):
        assert found["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "127.0.0.1@evil.example", "a/b"],
)
def test_other_host_names_are_refused(site: Site, host: str) -> None:
    client = site.client("annotator")
    assert client.get("/account", headers={"Host": host}).status_code == 400
    headers = {"Host": host, "Origin": f"http://{host}"} | csrf(site, client)
    assert client.post("/logout", headers=headers).status_code == 400


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_pass(site: Site, host: str) -> None:
    assert site.client().get("/login", headers={"Host": host}).status_code == 200


def test_a_request_that_is_too_long_is_refused(site: Site) -> None:
    client = site.client("annotator")
    for headers in (csrf(site, client), {}):
        found = client.post(
            "/logout",
            content=b"reason=" + b"x" * LARGEST_REQUEST,
            headers=headers | {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://{HOST}"},
        )
        # A route that takes no form does not read the body either.
        assert found.status_code == 413
    long = {"name": "x", "password": "y" * LARGEST_REQUEST}
    assert client.post("/login", data=long, headers=csrf(site, client)).status_code == 413


def test_middleware_is_plain_asgi() -> None:
    """BaseHTTPMiddleware hides that a client has gone, so a stream would go on for nobody."""
    for file in Path(palate.web.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "BaseHTTPMiddleware" not in text, file
        assert not re.search(r"@\w+\.middleware\(", text), file


def test_templates_and_scripts_have_nothing_inline_and_nothing_from_elsewhere() -> None:
    folder = Path(palate.web.__file__).parent
    for file in (folder / "templates").rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), file
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text), file
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text), file
        assert "| safe" not in text, file
        assert "|safe" not in text, file
    for file in (folder / "static").glob("*.js"):
        if file.name != "htmx.min.js":
            text = file.read_text(encoding="utf-8")
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
            ), file
            assert "http://" not in text, file
            assert "https://" not in text, file


def test_the_style_sheet_loads_nothing() -> None:
    for file in (Path(palate.web.__file__).parent / "static").glob("*.css"):
        assert not re.search(r"url\(|@import", file.read_text(encoding="utf-8")), file
