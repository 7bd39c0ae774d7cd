"""The pages of accounts in a real browser: logging in, a login that expires while a person types, accessibility."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import jinja2
import pytest
from fastapi import APIRouter, Form
from playwright.sync_api import Browser, Page, expect
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from browser import needs_browser, overflow, serious_findings
from palate.web.pages import environment, render
from palate.web.security.people import Annotator
from sites import PASSWORD, Site, make_site, running

pytestmark = needs_browser

TEMPLATE = """{% extends "base.html" %}
{% block scripts %}<script src="{{ static('htmx.min.js') }}" defer></script>{% endblock %}
{% block main %}
<h1>Notes</h1>
<label for="note">Note</label>
<textarea id="note"></textarea>
<form hx-post="/note" hx-target="#by-htmx"><input type="hidden" name="note" value="by htmx"><button>Send</button></form>
<p id="by-htmx"></p>
{{ text | markdown }}
{% endblock %}
"""
TEXT = f"""# Answer

Text with `code` and [a link](https://example.org).

```python
def f(x):  # no
    return 'a' + {"1" * 300}
```

| a | b |
|---|---|
| {"wide" * 100} | {"wide" * 100} |

{"long" * 200}
"""


@pytest.fixture
def notes() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def address(
    tmp_path: Path, notes: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Site, str]]:
    """A site with a page of notes, as a labelling page uses what every page has."""
    made = make_site(tmp_path)
    router = APIRouter()
    pages = environment()
    assert pages.loader is not None
    monkeypatch.setattr(
        pages, "loader", jinja2.ChoiceLoader([jinja2.DictLoader({"notes.html": TEMPLATE}), pages.loader])
    )

    @router.get("/notes")
    def show(request: Request, who: Annotator) -> Response:
        return render(request, "notes.html", text=TEXT)

    @router.post("/note")
    def add(who: Annotator, note: Annotated[str, Form()]) -> Response:
        notes.append((who.name, note))
        return HTMLResponse("<b>kept</b>")

    made.app.include_router(router)
    with running(made.app) as url:
        yield made, url
    made.store.close()


def open_page(chromium: Browser, url: str, path: str, **options: object) -> Page:
    page = chromium.new_context(base_url=url, **options).new_page()  # type: ignore[arg-type]
    page.errors = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.errors.append(str(error)))  # type: ignore[attr-defined]
    page.goto(path)
    return page


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


def send(page: Page, note: str) -> None:
    """Begin to send a note; `window.sent` becomes its status."""
    page.evaluate(f"() => {{ window.sent = palate.send('/note', {{note: {note}}}).then((found) => found.status); }}")


def test_login_leads_to_the_page_that_was_asked_for(chromium: Browser, address: tuple[Site, str]) -> None:
    _, url = address
    page = open_page(chromium, url, "/account?changed=false")
    assert page.url == f"{url}/login?next=%2Faccount%3Fchanged%3Dfalse"
    log_in(page, "annotator", "wrong password")
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    assert page.get_by_label("Name").input_value() == "annotator"
    log_in(page, "annotator")
    page.wait_for_url("**/account?changed=false")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto("/account")
    assert "/login" in page.url


def test_a_login_that_expires_while_a_person_types(
    chromium: Browser, address: tuple[Site, str], notes: list[tuple[str, str]]
) -> None:
    site, url = address
    page = open_page(chromium, url, "/notes")
    log_in(page, "annotator")
    page.wait_for_url("**/notes")
    page.get_by_label("Note").fill("what I have typed")
    site.clock.move(hours=13)
    send(page, "document.getElementById('note').value")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert serious_findings(page) == []
    assert page.evaluate("document.activeElement.id") == "login-dialog-password"
    dialog.get_by_label("Password").fill("wrong password")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    assert notes == []
    dialog.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert page.evaluate("window.sent") == 200
    assert page.get_by_label("Note").input_value() == "what I have typed"
    assert notes == [("annotator", "what I have typed")]
    # The forms of the page have the new token.
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    assert page.errors == []  # type: ignore[attr-defined]


def test_the_dialog_can_be_left(chromium: Browser, address: tuple[Site, str], notes: list[tuple[str, str]]) -> None:
    site, url = address
    page = open_page(chromium, url, "/notes")
    log_in(page, "annotator")
    page.wait_for_url("**/notes")
    site.clock.move(hours=13)
    for leave in ("Escape", "Not now"):
        send(page, "'x'")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.get_by_label("Password").fill("half a pass")
        page.keyboard.press("Escape") if leave == "Escape" else page.get_by_role("button", name=leave).click()
        assert page.evaluate("window.sent") == 401
        expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.locator("#login-dialog-password").input_value() == ""
    assert notes == []


def test_htmx_has_the_token_and_logs_in_again(
    chromium: Browser, address: tuple[Site, str], notes: list[tuple[str, str]]
) -> None:
    site, url = address
    page = open_page(chromium, url, "/notes")
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    log_in(page, "annotator")
    page.wait_for_url("**/notes")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#by-htmx")).to_have_text("kept")
    assert notes == [("annotator", "by htmx")]
    site.clock.move(hours=13)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("dialog").get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.wait_for_selector("#by-htmx b")
    expect(page.locator("#notice")).to_be_hidden()
    page.wait_for_timeout(200)
    assert notes == [("annotator", "by htmx")] * 2
    assert refused == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_is_accessible_and_fits(
    chromium: Browser, address: tuple[Site, str], scheme: str, width: int
) -> None:
    _, url = address
    page = open_page(chromium, url, "/login", color_scheme=scheme, viewport={"width": width, "height": 800})
    found = {"/login": (serious_findings(page), overflow(page))}
    page.keyboard.press("Shift+Tab")
    log_in(page, "admin")
    page.wait_for_url(f"{url}/")
    for path in ("/", "/account", "/account?changed=true", "/nothing", "/notes"):
        page.goto(path)
        found[path] = (serious_findings(page), overflow(page))
    assert found == dict.fromkeys(found, ([], []))


def test_the_first_key_leads_to_the_content(chromium: Browser, address: tuple[Site, str]) -> None:
    _, url = address
    page = open_page(chromium, url, "/nothing")
    page.keyboard.press("Tab")
    skip = page.get_by_text("Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
