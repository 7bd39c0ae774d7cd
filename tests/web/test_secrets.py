"""Passwords and tokens are in no page, no log and not in the database."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from palate.web.security import accounts, passwords
from sites import Site, csrf, make_site

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
SCRIPT = {"Accept": "application/json"}
CANARY = "CANARY-123-password"
NEXT_CANARY = "CANARY-456-password"
KEY = "sk-CANARY-789-key"


def test_secrets_are_nowhere(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PALATE_PASSWORD", CANARY)
    site = make_site(tmp_path)
    stored = passwords.hash_password(CANARY, name="anna")
    site.store.write(lambda session: accounts.add_account(session, "anna", stored, "admin", site.clock()))
    seen, tokens = [], []
    client = site.client()

    def post(path: str, kind: dict[str, str], **fields: str) -> None:
        client.get("/login", headers=PAGE)
        found = client.post(path, data=fields, headers=kind | csrf(site, client))
        seen.append(found.text)
        seen.append(repr({name: value for name, value in found.headers.items() if name != "set-cookie"}))
        if cookie := client.cookies.get(site.settings.session_cookie):
            tokens.append(cookie)

    for kind in (SCRIPT, PAGE):
        post("/login", kind, name="nobody", password=CANARY)
        post("/login", kind, name=f"{CANARY * 20}", password=CANARY)  # too long: an error of validation
        post("/login", kind, name="anna", password=CANARY * 100)
    post("/login", PAGE, name="anna", password=CANARY)
    seen.append(client.get("/account", headers=PAGE).text)
    post("/account/password", PAGE, old=CANARY, new=NEXT_CANARY, again="other")
    post("/account/password", PAGE, old=CANARY, new=CANARY * 30, again=CANARY * 30)
    post("/account/password", PAGE, old=CANARY, new=NEXT_CANARY, again=NEXT_CANARY)
    seen += [client.get(path, headers=PAGE).text for path in ("/", "/account", "/nothing")]
    monkeypatch.setattr(type(site.store), "read", lambda *_: 1 / 0)
    seen.append(client.get("/account", headers=PAGE).text)
    assert len(set(tokens)) == 2

    printed = capfd.readouterr()
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir()).decode("latin-1")
    places = {"pages": "\n".join(seen), "log": caplog.text, "output": printed.out + printed.err, "database": files}
    for place, text in places.items():
        for secret in ("CANARY", *tokens, *([stored] if place != "database" else [])):
            # The name field is shown again: what was typed there is a name.
            found = text.replace(f'value="{CANARY * 20}"', "")
            assert secret not in found, (place, secret)


def test_a_session_token_is_not_part_of_an_object_that_is_printed(site: Site) -> None:
    client = site.client("annotator")
    assert client.cookies[site.settings.session_cookie] not in repr(site.app.state.palate)
