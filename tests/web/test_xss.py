"""No payload changes the structure of any page that shows what was sent."""

from __future__ import annotations

from urllib.parse import quote

import pytest

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


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_route_with_a_parameter_or_a_query(site: Site, payload: str) -> None:
    """As admin, who may open everything; the payload stands for every parameter, then for every query."""
    client = site.client("admin")
    for method, path in route_roles(site.app):
        if method != "GET":
            continue
        names = [part.partition("}")[0].partition(":")[0] for part in path.split("{")[1:]]
        for text in ("harmless", payload):
            filled = path
            for name in names:
                filled = filled.replace("{" + name + "}", quote(text, safe=""))
            found = client.get(f"{filled}?q={quote(text, safe='')}&changed={quote(text, safe='')}", headers=PAGE)
            assert found.status_code < 500, (path, found.text)
            if found.headers["content-type"].startswith("text/html") and found.text:
                tags = Structure(found.text)
                assert not any(name.startswith(("on", "hx-on", "style")) for _, name, _ in tags.attributes), path
                scripts = [dict(zip(names_, names_)) for tag, names_ in tags.tags if tag == "script"]
                assert all("src" in attributes for attributes in scripts), path
                for tag, name, value in tags.attributes:
                    if name in ("href", "src", "action", "formaction") and tag != "a":
                        assert value.startswith("/"), (path, tag, value)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_pages_that_do_not_exist(site: Site, payload: str) -> None:
    client = site.client("annotator")
    harmless = client.get("/nothing/harmless", headers=PAGE)
    found = client.get(f"/nothing/{quote(payload, safe='')}", headers=PAGE)
    assert (harmless.status_code, found.status_code) == (404, 404)
    assert structure(found.text) == structure(harmless.text)
    assert payload not in found.text
