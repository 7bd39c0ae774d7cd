"""A new password: rules, and the logins that it ends."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from palate.errors import UsageError
from palate.web.security import passwords
from sites import PASSWORD, Site, csrf

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
NEW = "a new password 7"


def change(site: Site, client: TestClient, old: str = PASSWORD, new: str = NEW, again: str = NEW) -> Any:
    fields = {"old": old, "new": new, "again": again}
    return client.post("/account/password", data=fields, headers=PAGE | csrf(site, client))


def test_other_logins_end(site: Site) -> None:
    client, elsewhere, another = site.client("annotator"), site.client("annotator"), site.client("admin")
    before = client.cookies[site.settings.session_cookie]
    found = change(site, client)
    assert (found.status_code, found.headers["location"]) == (303, "/account?changed=true")
    assert client.cookies[site.settings.session_cookie] != before
    assert "The password is changed" in client.get("/account?changed=true", headers=PAGE).text
    assert elsewhere.get("/account").status_code == 401
    assert another.get("/account").status_code == 200
    stolen = site.client()
    stolen.cookies.set(site.settings.session_cookie, before)
    assert stolen.get("/account").status_code == 401
    for password, code in ((PASSWORD, 401), (NEW, 303)):
        visitor = site.client()
        visitor.get("/login", headers=PAGE)
        fields = {"name": "annotator", "password": password}
        assert visitor.post("/login", data=fields, headers=PAGE | csrf(site, visitor)).status_code == code


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"old": "wrong"}, "The old password is wrong."),
        ({"again": NEW + "x"}, "not typed the same way twice"),
        ({"new": "short", "again": "short"}, "The password has 5 characters; use at least 10"),
        ({"new": "ééééééééééé", "again": "ééééééééééé"}, "one character repeated"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_changes(site: Site, fields: dict[str, str], message: str) -> None:
    client = site.client("annotator")
    found = change(site, client, **fields)
    assert found.status_code == 400
    assert message in found.text
    assert change(site, client).status_code == 303


def test_guesses_of_the_old_password_are_limited(site: Site) -> None:
    client = site.client("annotator", address="10.0.0.9")
    codes = [change(site, client, old="wrong").status_code for _ in range(11)]
    assert codes == [400] * 10 + [429]


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("123456789", "has 9 characters; use at least 10"),
        ("x1" * 251, "has 502 characters; use at most 500"),
        ("Annotator-Anna", "is the name"),
        ("          ", "one character repeated"),
    ],
)
def test_rules_of_passwords(password: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        passwords.hash_password(password, name="annotator-anna")


@pytest.mark.usefixtures("real_passwords")
def test_hashes_are_salted_argon2id_and_match_their_password_only() -> None:
    first, second = (passwords.hash_password(NEW, name="a") for _ in range(2))
    assert first != second
    assert first.startswith("$argon2id$")
    assert passwords.matches(first, NEW)
    assert not passwords.matches(first, NEW + " ")
    assert not passwords.matches("", NEW)
    assert not passwords.matches("", "")
    assert not passwords.matches("not a hash", NEW)
