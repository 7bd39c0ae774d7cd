"""No payload changes the structure of any page that shows what was sent."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.testclient import TestClient

from palate.web.app import route_roles
from payloads import PAYLOADS
from sites import Site, Structure, csrf

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}


def structure(text: str) -> list[tuple[str, tuple[str, ...]]]:
    assert text.startswith("<!doctype html>")
    return Structure(text).tags


def sendable(payload: str) -> str:
    """As a browser can type it into a form."""
    return payload.replace("\x00", "\ufffd")


def test_login_form_and_its_answer(site: Site) -> None:
    client = site.client(address="10.0.0.0")
    harmless = structure(client.get("/login", params={"next": "/x"}, headers=PAGE).text)
    failed = {}
    for number, payload in enumerate(("harmless", *map(sendable, PAYLOADS))):
        assert structure(client.get("/login", params={"next": payload}, headers=PAGE).text) == harmless
        other = site.client(address=f"10.0.0.{number}")
        other.get("/login", headers=PAGE)
        sent = {"name": payload[:200], "password": payload, "next": payload}
        found = other.post("/login", data=sent, headers=PAGE | csrf(site, other))
        assert found.status_code == 401
        failed[payload] = structure(found.text)
    assert [payload for payload, tags in failed.items() if tags != failed["harmless"]] == []


def seen(client: TestClient, path: str) -> tuple[int, list[tuple[str, tuple[str, ...]]]]:
    """Status of a page and its structure; none of a response without HTML."""
    found = client.get(path, headers=PAGE)
    is_html = found.headers.get("content-type", "").startswith("text/html")
    return found.status_code, structure(found.text) if is_html and found.text else []


def test_every_route_with_a_parameter_or_a_query(site: Site) -> None:
    """As admin, who may open everything; the payload stands for every parameter, and for queries.

    With a slash in it a payload leads past most routes, so it is sent without slashes too.
    """
    client = site.client("admin")
    not_found = seen(client, "/nothing/harmless")
    payloads = sorted({text for payload in PAYLOADS for text in (payload, payload.replace("/", " "))})
    failed, pages = [], 0
    for method, path in route_roles(site.app):
        if method != "GET":
            continue
        address = re.sub(r"\{[\w:]+\}", "{0}", path) + "?q={0}&changed={0}"
        harmless = seen(client, address.format("harmless"))
        pages += bool(harmless[1])
        assert harmless[0] < 500, path
        allowed = (harmless, not_found)
        failed += [
            (path, text) for text in payloads if seen(client, address.format(quote(text, safe=""))) not in allowed
        ]
    assert failed == []
    assert pages >= 2


def test_pages_that_do_not_exist(site: Site) -> None:
    client = site.client("annotator")
    harmless = seen(client, "/nothing/harmless")
    assert harmless[0] == 404
    assert [payload for payload in PAYLOADS if seen(client, f"/nothing/{quote(payload, safe='')}") != harmless] == []
