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

from browser import needs_browser
from label_browser import wait_for_another_item
from label_site import CAMPAIGN, label_site
from palate.feedback.campaigns.campaign import CampaignSchema
from palate.feedback.page.chat import Chat
from palate.models.generation.decoding import Decoding
from palate.web.app import create_app
from palate.web.pages import environment, render
from palate.web.security.people import Anyone
from payloads import PAYLOADS, RUN
from sites import Site, make_site, running
from streams import Fake

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

    @property
    def harmless(self) -> bool:
        return not (self.ran or self.dialogs or self.elsewhere)


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
        watched.page.wait_for_selector("html[data-ran]")
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
            if not watched.harmless:
                failed.append(payload)
                watched.dialogs.clear()
                watched.elsewhere.clear()
        assert failed == []
        # The pages themselves obey their content security policy.
        assert refused == []
        watched.context.close()


TEXTS = [payload.replace("\x00", "\ufffd") for payload in PAYLOADS]
THREES = [tuple((TEXTS * 2)[start : start + 3]) for start in range(0, len(TEXTS), 3)]
"""Every payload is in one of them."""


def test_no_payload_does_anything_on_the_labelling_pages(chromium: Browser, tmp_path: Path) -> None:
    """The real pages, with payloads as prompt, answers, reason, criteria, tag and name of a dimension."""
    assert {text for three in THREES for text in three} == set(TEXTS)
    schema = CampaignSchema(criteria="\n".join(TEXTS[:20]), tags=(TEXTS[0], TEXTS[4]), dimensions=(TEXTS[7],))
    made = label_site(
        tmp_path,
        prompts=[one for one, _, _ in THREES],
        answers=[(two, f"{three} {two}") for _, two, three in THREES],
        schema=schema,
        local=True,
    )
    with running(made.app) as address:
        watched = Watched(chromium, address)
        page = watched.page
        page.goto(f"/label/{CAMPAIGN}")
        page.wait_for_load_state()
        for number, (one, two, three) in enumerate(THREES):
            page.wait_for_selector("#ballot")
            page.keyboard.press("d")
            page.wait_for_selector("#first-difference:visible")
            if number % 4 == 0:
                page.keyboard.press("r")
                page.fill("#reason", "\n".join((one, two, three)))
                page.keyboard.press("Escape")
            draft = page.get_attribute("#ballot", "data-draft")
            page.keyboard.press("f")
            wait_for_another_item(page, draft)
            assert watched.harmless, (one, two, three)
        for path in (f"/label/{CAMPAIGN}/admin", f"/label/{CAMPAIGN}/agreement", f"/label/{CAMPAIGN}/conflicts"):
            page.goto(path)
            assert watched.harmless, path
        links = [link.get_attribute("href") or "" for link in page.query_selector_all("main li h2 a")]
        assert len(links) == len(THREES)
        for link in links:
            page.goto(link)
            assert watched.harmless, link
        watched.context.close()
    made.store.close()


def test_no_payload_does_anything_in_a_free_prompt(chromium: Browser, tmp_path: Path) -> None:
    """As prompt and as answers, while they are streamed and afterwards."""
    made = make_site(tmp_path, local=True)
    texts = ["\n\n".join(TEXTS[start::8]) for start in range(8)]
    written = iter([text for number, one in enumerate(texts) for text in (one, texts[number - 1])])
    models = [Fake(write=lambda _: next(written), name=name) for name in TEXTS[:2]]
    chat = Chat(models[0], models[1], Decoding(max_new_tokens=9, temperature=1.0))
    with running(create_app(made.store, made.settings, chat=chat)) as address:
        watched = Watched(chromium, address)
        page = watched.page
        page.goto("/ask")
        for start in range(8):
            page.fill("#prompt", texts[start])
            page.click("#ask-button")
            page.wait_for_selector("#ballot")
            assert watched.harmless, start
            page.click("button:has-text('A much better')")
            page.wait_for_selector("#ask")
            page.click(".ask-last summary")
            assert watched.harmless, start
        watched.context.close()
    chat.close()
    made.store.close()


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
