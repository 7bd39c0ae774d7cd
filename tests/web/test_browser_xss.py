"""In a real browser: no payload runs a script, opens a dialog or sends a request to another site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from fastapi import APIRouter
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Route
from starlette.requests import Request
from starlette.responses import Response

from browser import browser, needs_browser
from palate.web.pages import environment, render
from palate.web.security.people import Anyone
from payloads import PAYLOADS, RUN
from sites import Site, make_site, running

pytestmark = needs_browser

TEMPLATE = """{% extends "base.html" %}
{% block title %}{{ text }}{% endblock %}
{% block main %}
<h1>{{ text }}</h1>
<article id="markdown">{{ text | markdown }}</article>
<div class="text plain">{{ text }}</div>
<table><tr><td title="{{ text }}">{{ text }}</td></tr></table>
<form><input value="{{ text }}"><textarea>{{ text }}</textarea></form>
{% endblock %}
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


class Watched:
    """A browser context that notes dialogs and requests to other sites, which are not let out."""

    def __init__(self, chromium: Browser, address: str) -> None:
        self.context: BrowserContext = chromium.new_context(base_url=address)
        self.dialogs: list[str] = []
        self.elsewhere: list[str] = []
        self.context.on("dialog", self._dialog)
        self.context.route(lambda url: not url.startswith(address), self._abort)
        self.page: Page = self.context.new_page()

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _abort(self, route: Route) -> None:
        self.elsewhere.append(route.request.url)
        route.abort()

    @property
    def ran(self) -> bool:
        return self.page.evaluate("document.documentElement.hasAttribute('data-ran')")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, local=True)
    router = APIRouter(dependencies=[Anyone])

    @router.get("/payload/{number}")
    def show(request: Request, number: int) -> Response:
        return render(request, "payload.html", text=PAYLOADS[number])

    made.app.include_router(router)
    yield made
    made.store.close()


@pytest.fixture(autouse=True)
def template(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = environment()
    loader = jinja2.ChoiceLoader([jinja2.DictLoader({"payload.html": TEMPLATE}), pages.loader])  # type: ignore[list-item]
    monkeypatch.setattr(pages, "loader", loader)


def test_the_watch_sees_what_it_should(chromium: Browser, site: Site) -> None:
    """Without our rendering a payload does run: what the other test does not see was there to be seen."""
    with running(site.app) as address:
        watched = Watched(chromium, address)
        watched.page.set_content(f"<img src=x onerror=\"{RUN}\"><img src='https://evil.example/pixel.png'>")
        watched.page.wait_for_function("document.documentElement.hasAttribute('data-ran')")
        watched.page.wait_for_timeout(200)
        assert watched.ran
        assert watched.dialogs == ["1"]
        assert watched.elsewhere == ["https://evil.example/pixel.png"]
        watched.context.close()


def test_no_payload_does_anything(chromium: Browser, site: Site) -> None:
    with running(site.app) as address:
        watched = Watched(chromium, address)
        refused: list[str] = []
        watched.page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
        failed = []
        for number, payload in enumerate(PAYLOADS):
            answer = watched.page.goto(f"/payload/{number}")
            assert answer is not None
            assert answer.status == 200
            for element in watched.page.query_selector_all("main input, main textarea"):
                element.focus()
                element.hover()
            if watched.ran or watched.dialogs or watched.elsewhere:
                failed.append(payload)
                watched.dialogs.clear()
                watched.elsewhere.clear()
        assert failed == []
        # The pages themselves obey their content security policy.
        assert refused == []
        watched.context.close()


def test_links_of_payloads_run_nothing_when_clicked(chromium: Browser, site: Site) -> None:
    with running(site.app) as address:
        watched = Watched(chromium, address)
        for number in range(len(PAYLOADS)):
            watched.page.goto(f"/payload/{number}")
            for link in watched.page.query_selector_all("#markdown a"):
                assert (link.get_attribute("href") or "").startswith(("https://", "http://", "mailto:"))
                link.dispatch_event("click")
            assert not watched.ran
            assert watched.dialogs == []
        assert all(url.startswith("https://") for url in watched.elsewhere)  # links that a person chose to follow
        watched.context.close()
