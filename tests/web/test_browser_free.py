"""The free prompt in a real browser, on a phone's width: streamed, voted by key; nothing typed is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from browser import needs_browser, overflow, serious_findings
from palate.artifacts import read_jsonl
from palate.errors import EngineError
from palate.feedback.page.chat import Chat
from palate.feedback.page.save import PreferenceFile
from palate.models.generation.decoding import Decoding
from palate.store.tables import CampaignItem, VoteRow
from palate.web.app import create_app
from sites import PASSWORD, Site, make_site, running
from streams import Endless, Fake

pytestmark = needs_browser

HOW = Decoding(max_new_tokens=9, temperature=1.0)


@contextmanager
def served(folder: Path, first: Fake, second: Fake, *, local: bool = True) -> Iterator[tuple[Site, str]]:
    """A site with two models and a file of decided pairs, and its address."""
    plain = make_site(folder, local=local)
    chat = Chat(first, second, HOW)
    try:
        with PreferenceFile(folder / "preferences.jsonl") as file:
            app = create_app(plain.store, plain.settings, chat=chat, save=file)
            with running(app) as address:
                yield Site(app, plain.store, plain.settings, plain.clock, plain.people), address
    finally:
        chat.close()
        plain.store.close()


def ask(page: Any, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.click("#ask-button")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_turns_on_a_phone(chromium: Any, tmp_path: Path, scheme: str) -> None:
    one = Fake(write=lambda prompt: f"**one** <b>answer</b> to {prompt[-1].content}", name="model-one")
    other = Fake(
        write=lambda prompt: f"other answer to {prompt[-1].content}", name="model-two/" + "of_a_long_path_" * 4
    )
    context = chromium.new_context(viewport={"width": 390, "height": 780}, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    with served(tmp_path, one, other) as (site, address):
        page.goto(address)
        assert serious_findings(page) == []
        assert overflow(page) == []
        ask(page, "why 12345?")
        page.wait_for_selector("#ballot")
        assert "model-" not in page.content()
        assert serious_findings(page) == []
        assert overflow(page) == []
        page.keyboard.press("1")
        page.wait_for_selector("#ask")
        assert page.inner_text("#label-status") == "Recorded: A much better."
        page.click(".ask-last summary")
        told = page.inner_text(".ask-last")
        assert f"by {one.name}" in told
        assert f"by {other.name}" in told
        assert serious_findings(page) == []
        assert overflow(page) == []
        page.check("text=Go on with the answer")
        ask(page, "and then?")
        page.wait_for_selector("#ballot")
        assert "why 12345?" in page.inner_text(".prompt")
        page.keyboard.press("u")  # the first vote: its answers come back before the new ones
        page.wait_for_selector(".prompt:not(:has-text('and then?'))")
        page.keyboard.press("5")
        page.wait_for_selector(".prompt:has-text('and then?')")
        page.keyboard.press("2")
        page.wait_for_selector("#ask")
        votes = site.store.read(lambda session: list(session.scalars(select(VoteRow).order_by(VoteRow.number))))
    assert problems == []
    rows = read_jsonl(tmp_path / "preferences.jsonl")
    assert [len(row["conversations"]) for row in rows] == [1, 3]
    assert [vote.strength for vote in votes if vote.outcome != "skip"] == [2, 2, 1]
    assert all(vote.seconds is not None for vote in votes if vote.outcome != "skip")
    context.close()


def test_a_failed_answer_keeps_the_prompt_and_is_asked_again(chromium: Any, tmp_path: Path) -> None:
    broken = Fake("half an", fails=EngineError("secret-model is away"), name="secret-model")
    page = chromium.new_page()
    with served(tmp_path, Fake("whole"), broken) as (_, address):
        page.goto(address)
        ask(page, "a long prompt")
        page.wait_for_selector("#ask-trouble:visible")
        assert "nothing was saved" in page.inner_text("#ask-trouble")
        assert page.input_value("#prompt") == "a long prompt"
        assert "failed:" in page.inner_text("#ask-answers")
        assert "secret-model" not in page.content()
        page.reload()
        assert page.input_value("#prompt") == "a long prompt"
        broken.fails = None
        page.click("#ask-button")
        page.wait_for_selector("#ballot")
    page.close()


def test_stop_ends_both_models(chromium: Any, tmp_path: Path) -> None:
    first, second = Endless(), Endless(name="b")
    page = chromium.new_page()
    with served(tmp_path, first, second) as (site, address):
        page.goto(address)
        ask(page, "why?")
        page.wait_for_selector("#first-stream:has-text('on on on on')")
        page.click("#stop-button")
        page.wait_for_selector("#ask-trouble:visible")
        assert page.inner_text("#ask-trouble") == "Stopped. Nothing was saved."
        assert first.left.wait(60)
        assert second.left.wait(60)
        assert page.is_enabled("#ask-button")
        assert site.store.read(lambda session: session.scalars(select(CampaignItem)).first()) is None
    page.close()


def test_a_login_that_expires_before_the_prompt_is_sent(chromium: Any, tmp_path: Path) -> None:
    page = chromium.new_page()
    with served(tmp_path, Fake("one"), Fake("other", name="b"), local=False) as (site, address):
        page.goto(f"{address}/ask")
        page.fill("#name", "annotator")
        page.fill("#password", PASSWORD)
        page.press("#password", "Enter")
        page.wait_for_selector("#ask")
        site.clock.move(hours=13)
        ask(page, "typed before")
        page.wait_for_selector("#login-dialog[open]")
        page.fill("#login-dialog-password", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("#ballot")
        assert "typed before" in page.inner_text(".prompt")
    page.close()
