"""Logging in and out: fixation, expiry, disabled accounts, equal answers for unknown names, redirects, dialogs."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from palate.store.tables import LoginSession
from palate.web.login import own_path
from palate.web.security import accounts, passwords
from palate.web.security.tokens import token_of
from sites import HOST, PASSWORD, Site, csrf, make_site

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
SCRIPT = {"Accept": "application/json", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}


def log_in(site: Site, client: TestClient, name: str, password: str = PASSWORD, **kind: Any) -> Any:
    """As the form does: open the page, send it back."""
    client.get("/login", headers=PAGE)
    fields = {"name": name, "password": password, "next": kind.pop("next", "/account")}
    return client.post("/login", data=fields, headers=kind.pop("headers", PAGE) | csrf(site, client))


def logins(site: Site) -> list[str]:
    return list(site.store.read(lambda session: session.scalars(select(LoginSession.token_hash)).all()))


def test_login_and_logout(site: Site) -> None:
    client = site.client()
    first = client.get("/account", headers=PAGE)
    assert (first.status_code, first.headers["location"]) == (303, "/login?next=%2Faccount")
    found = log_in(site, client, "annotator")
    assert (found.status_code, found.headers["location"]) == (303, "/account")
    cookie = found.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert "<dd>annotator</dd>" in client.get("/account", headers=PAGE).text
    token = client.cookies[site.settings.session_cookie]
    assert token not in logins(site)  # the table has its digest only
    assert client.post("/logout", headers=PAGE | csrf(site, client)).headers["location"] == "/login"
    assert logins(site) == []
    client.cookies.set(site.settings.session_cookie, token)
    assert client.get("/account").status_code == 401


def test_names_are_the_same_in_upper_and_lower_case(site: Site) -> None:
    assert log_in(site, site.client(), " Annotator ").status_code == 303


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("annotator", "wrong"),
        ("nobody", PASSWORD),
        ("", ""),
        ("annotator", ""),
        ("local", ""),
        ("annotator", "x" * 1000),
    ],
)
def test_a_wrong_login_says_nothing_about_the_name(site: Site, name: str, password: str) -> None:
    found = log_in(site, site.client(), name, password)
    assert found.status_code == 401
    assert "The name or the password is wrong." in found.text
    assert logins(site) == []


def test_the_local_person_cannot_log_in(tmp_path: Any) -> None:
    site = make_site(tmp_path)
    site.store.write(lambda session: accounts.local_person(session, site.clock()))
    assert log_in(site, site.client(), "local", "").status_code == 401


@pytest.mark.usefixtures("real_passwords")
@pytest.mark.parametrize("name", ["anna", "nobody", "ben"])
def test_every_login_verifies_one_hash(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """So it takes as long for a name that does not exist, and for one that is disabled."""
    site = make_site(tmp_path)
    stored = passwords.hash_password(PASSWORD, name="")
    for person in ("anna", "ben"):
        site.store.write(lambda session: accounts.add_account(session, person, stored, "admin", site.clock()))  # noqa: B023
    site.store.write(lambda session: accounts.set_active(session, "ben", active=False))
    verified, hashed = [], []

    class Counted:
        def verify(self, stored: str, password: str) -> bool:
            verified.append(stored)
            return real.verify(stored, password)

        def hash(self, password: str) -> str:
            hashed.append(password)
            return real.hash(password)

    real = passwords._HASHER
    monkeypatch.setattr(passwords, "_HASHER", Counted())
    log_in(site, site.client(), name, "not the password")
    assert (len(verified), hashed) == (1, [])
    # The parameters decide how long it takes; they are those of RFC 9106 for machines with little memory.
    assert verified[0].startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    site.store.close()


def test_a_login_gets_a_new_token_whatever_the_browser_came_with(site: Site) -> None:
    client = site.client()
    client.cookies.set(site.settings.session_cookie, "chosen-by-an-attacker")
    found = client.post(
        "/login",
        data={"name": "annotator", "password": PASSWORD},
        headers=PAGE | {"X-CSRF-Token": token_of("chosen-by-an-attacker")},
    )
    assert found.status_code == 303
    given = found.headers["set-cookie"].split("=", 1)[1].split(";")[0]
    assert given != "chosen-by-an-attacker"
    assert len(given) >= 43  # 256 bits
    attacker = site.client()
    attacker.cookies.set(site.settings.session_cookie, "chosen-by-an-attacker")
    assert attacker.get("/account").status_code == 401


def test_a_second_login_ends_the_first_of_the_same_browser(site: Site) -> None:
    client = site.client("annotator")
    old = client.cookies[site.settings.session_cookie]
    assert log_in(site, client, "admin", headers=SCRIPT).status_code == 200
    other = site.client()
    other.cookies.set(site.settings.session_cookie, old)
    assert other.get("/account").status_code == 401


def test_an_expired_login(site: Site) -> None:
    client = site.client("annotator")
    site.clock.move(hours=11.9)
    assert client.get("/account").status_code == 200
    site.clock.move(hours=0.2)
    assert client.get("/account").status_code == 401
    place = client.get("/account?changed=true", headers=PAGE).headers["location"]
    assert place == "/login?next=%2Faccount%3Fchanged%3Dtrue"


def test_expired_logins_are_removed(site: Site) -> None:
    for _ in range(3):
        site.client("annotator")
    site.clock.move(hours=13)
    log_in(site, site.client(), "annotator")
    assert len(logins(site)) == 1


def test_login_in_place(site: Site) -> None:
    """As page.js does when a vote answers 401: a token, the login, and the same request with the new token."""
    client = site.client("annotator")
    site.clock.move(hours=13)
    assert client.post("/account/password", headers=SCRIPT | csrf(site, client)).status_code == 401
    token = client.get("/login", headers=SCRIPT).json()["csrf_token"]
    wrong = client.post("/login", data={"name": "annotator", "password": "x"}, headers=SCRIPT | {"X-CSRF-Token": token})
    assert (wrong.status_code, wrong.json()) == (401, {"error": "The name or the password is wrong."})
    found = client.post(
        "/login", data={"name": "annotator", "password": PASSWORD}, headers=SCRIPT | {"X-CSRF-Token": token}
    )
    assert found.json() == {"name": "annotator", "csrf_token": csrf(site, client)["X-CSRF-Token"]}
    again = client.post("/account/password", headers=SCRIPT | {"X-CSRF-Token": found.json()["csrf_token"]})
    assert again.status_code == 400  # it arrives: the old password is wrong


def test_login_in_place_after_a_logout_in_another_tab(site: Site) -> None:
    client = site.client("annotator")
    client.post("/logout", headers=PAGE | csrf(site, client))
    token = client.get("/login", headers=SCRIPT).json()["csrf_token"]
    found = client.post(
        "/login", data={"name": "annotator", "password": PASSWORD}, headers=SCRIPT | {"X-CSRF-Token": token}
    )
    assert found.status_code == 200


def test_a_disabled_account_is_logged_out_and_stays_out(site: Site) -> None:
    client = site.client("annotator")
    site.store.write(lambda session: accounts.set_active(session, "annotator", active=False))
    assert client.get("/account").status_code == 401
    assert log_in(site, site.client(), "annotator").status_code == 401


def test_too_many_logins(site: Site) -> None:
    client = site.client(address="10.0.0.1")
    codes = [log_in(site, client, "annotator", "wrong").status_code for _ in range(11)]
    assert codes == [401] * 10 + [429]
    refused = log_in(site, client, "annotator")  # the right password does not help now
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 15 * 60
    assert "Too many attempts" in refused.text
    # Neither another person of that address nor the same person elsewhere is locked out.
    assert log_in(site, client, "reviewer").status_code == 303
    assert log_in(site, site.client(address="10.0.0.2"), "annotator").status_code == 303


def test_one_address_cannot_try_all_names(site: Site) -> None:
    client = site.client(address="10.0.0.1")
    codes = {log_in(site, client, f"name{number}", "").status_code for number in range(60)}
    assert codes == {401}
    assert log_in(site, client, "another", "").status_code == 429


def test_a_right_password_forgets_the_wrong_ones(site: Site) -> None:
    client = site.client(address="10.0.0.1")
    for _ in range(3):
        for _ in range(5):
            log_in(site, client, "annotator", "wrong")
        assert log_in(site, client, "annotator").status_code == 303


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/label/x?y=1", "/label/x?y=1"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("evil", "/"),
    ],
)
def test_the_next_page_is_one_of_ours(site: Site, wanted: str, path: str) -> None:
    assert own_path(wanted) == path
    found = site.client("annotator").get("/login", params={"next": wanted}, headers=PAGE)
    assert (found.status_code, found.headers["location"]) == (303, path)


def test_cookies_behind_a_proxy_are_sent_by_https_only(tmp_path: Any) -> None:
    site = make_site(tmp_path, https=True)
    client = TestClient(site.app, base_url=f"https://{HOST}", follow_redirects=False)
    found = log_in(site, client, "annotator")
    assert found.status_code == 303
    assert found.headers["set-cookie"].startswith("__Host-palate_session_8000=")
    assert "Secure" in found.headers["set-cookie"]
    assert client.get("/account").status_code == 200
    site.store.close()


def test_two_servers_of_one_machine_have_cookies_of_their_own(tmp_path: Any) -> None:
    site = make_site(tmp_path, port=8001)
    assert site.settings.session_cookie == "palate_session_8001"
    site.store.close()
