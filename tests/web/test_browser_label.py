"""The labelling page in a real browser: by keyboard, a cut connection, an expired login, nothing typed is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from browser import needs_browser
from label_browser import log_in, vote, wait_for_another_item
from label_site import CAMPAIGN, bad, good, item_names, label_site, vote_rows
from palate.feedback.campaigns.campaign import CampaignSchema
from sites import PASSWORD, Site, running

pytestmark = needs_browser

SCHEMA = CampaignSchema(criteria="Correct, then short.", tags=("wrong", "rude"), dimensions=("accuracy",))
KEYS = {"1": "first_much", "2": "first", "3": "tie", "4": "second", "5": "second_much", "0": "both_bad"}
ITEMS = 20


def shown_item(page: Any) -> tuple[int, bool]:
    """Number of the item, and whether its good answer is A, by the texts that the browser shows."""
    first, second = (page.inner_text(f"#{slot}-text").strip() for slot in ("first", "second"))
    number = int(re.findall(r"question (\d+)", first)[0])
    assert {first, second} == {good(number).replace("*", ""), bad(number)}
    return number, first == good(number).replace("*", "")


def expected_row(key: str, good_first: bool) -> tuple[str, int]:
    """Outcome and strength of a key; the good answer is `left` in the store."""
    choice = KEYS[key]
    if choice in ("tie", "both_bad"):
        return choice, 1
    wins = choice.startswith("first") == good_first
    return ("left" if wins else "right"), (2 if choice.endswith("_much") else 1)


def stored(site: Site) -> dict[int, tuple[str, int]]:
    """The valid votes in the store, by number of the item."""
    names = item_names(site.store)
    rows = [row for row in vote_rows(site.store) if row.outcome != "skip"]
    found = {int(names[row.item_id].partition(":")[2]): (row.outcome, row.strength) for row in rows}
    assert len(found) == len(rows), "one vote for each item"
    return found


def test_twenty_items_by_keyboard(chromium: Any, tmp_path: Path) -> None:
    site = label_site(tmp_path, items=ITEMS, schema=SCHEMA)
    context = chromium.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    expected: dict[int, tuple[str, int]] = {}
    with running(site.app) as address:
        log_in(page, address)
        for step in range(ITEMS):
            number, good_first = shown_item(page)
            key = list(KEYS)[step % len(KEYS)]
            assert page.evaluate("document.activeElement.id") in ("item-heading", "main", ""), (
                "focus is on the new item"
            )
            if step == 4:
                vote(page, key)
                undo_the_vote(page, number)
                key = "2"
            if step == 8:
                vote_without_connection(page, context, key)
            elif step == 13:
                vote_with_expired_login(page, site, key)
            else:
                vote(page, key)
            expected[number] = expected_row(key, good_first)
        page.wait_for_selector("text=Nothing left to label")
    context.close()
    assert stored(site) == expected
    rows = {row.reason: row for row in vote_rows(site.store) if row.reason}
    assert set(rows) == {"typed without a connection", "typed while the login expired"}
    assert all(
        row.seconds is not None and 0 <= row.seconds <= row.seconds_total
        for row in vote_rows(site.store)
        if row.outcome != "skip"
    )
    # what the browser itself reports of the cut connection and of the 401
    assert [text for text in problems if "ERR_" not in text and "401" not in text] == []
    site.store.close()


def undo_the_vote(page: Any, number: int) -> None:
    page.keyboard.press("u")
    expect(page.locator("#first-text")).to_contain_text(f"question {number}.")
    assert page.inner_text("#label-status") == "Undone. The item is open again."


def vote_without_connection(page: Any, context: Any, key: str) -> None:
    """The first request never arrives, the answer to the second is lost, the third one goes through."""
    page.keyboard.press("r")
    page.keyboard.type("typed without a connection")
    page.keyboard.press("Escape")
    answers_lost = []

    def cut(route: Any) -> None:
        if not answers_lost:
            answers_lost.append("request")
            route.abort("connectionreset")
        elif len(answers_lost) == 1:
            answers_lost.append("answer")
            route.fetch(max_redirects=0)  # the server gets the vote; the browser does not get its answer
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/vote", cut)
    before = page.get_attribute("#ballot", "data-draft")
    page.keyboard.press(key)
    page.wait_for_selector("#label-trouble:visible")
    message = page.inner_text("#label-trouble p")
    assert "no connection" in message
    assert "Not saved yet" in message
    assert page.input_value("#reason") == "typed without a connection"
    draft = json.loads(page.evaluate("(name) => localStorage.getItem('palate-draft:' + name)", before))
    assert ["reason", "typed without a connection"] in draft["fields"]
    page.click("#label-trouble button")
    wait_for_another_item(page, before)
    assert answers_lost == ["request", "answer"]
    assert page.evaluate("(name) => localStorage.getItem('palate-draft:' + name)", before) is None
    page.unroute("**/vote")


def vote_with_expired_login(page: Any, site: Site, key: str) -> None:
    """The login expires while the person writes; they log in within the page, and the vote goes through."""
    page.keyboard.press("r")
    page.keyboard.type("typed while ")
    site.clock.move(hours=13)
    page.keyboard.type("the login expired")
    page.keyboard.press("Escape")
    before = page.get_attribute("#ballot", "data-draft")
    page.keyboard.press(key)
    page.wait_for_selector("#login-dialog[open]")
    assert page.input_value("#reason") == "typed while the login expired"
    # a wrong password, and closing the dialog, lose nothing either
    page.fill("#login-dialog-password", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#login-dialog .message:visible")
    page.keyboard.press("Escape")
    page.wait_for_selector("#label-trouble:visible")
    assert "You are logged out" in page.inner_text("#label-trouble p")
    page.click("#label-trouble button")
    page.wait_for_selector("#login-dialog[open]")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    wait_for_another_item(page, before)


def test_a_draft_survives_a_reload_and_keys_do_not_vote_while_typing(chromium: Any, tmp_path: Path) -> None:
    site = label_site(tmp_path, items=2, schema=SCHEMA, local=True)
    page = chromium.new_page()
    with running(site.app) as address:
        page.goto(f"{address}/label/{CAMPAIGN}")
        item = shown_item(page)
        page.keyboard.press("r")
        page.keyboard.type("12345 0 sfud? r")
        page.keyboard.press("Escape")
        page.check("text=rude")
        page.click(".scores:has-text('A') label:has-text('4')")
        assert vote_rows(site.store) == []
        page.reload()
        assert shown_item(page) == item
        assert page.input_value("#reason") == "12345 0 sfud? r"
        assert page.is_checked("text=rude")
        assert page.inner_text("#label-status") == "Your draft is here again."
        # one of two scores: said before anything is sent
        page.focus("#item-heading")
        page.keyboard.press("1")
        assert "Score both answers for “accuracy”" in page.inner_text("#label-trouble p")
        page.click(".scores:has-text('B') label:has-text('2')")
        page.focus("#item-heading")
        vote(page, "1")
        (row,) = vote_rows(site.store)
        assert (row.reason, row.tags) == ("12345 0 sfud? r", ["rude"])
        assert row.dimensions == {"accuracy": [4.0, 2.0] if item[1] else [2.0, 4.0]}
        # undo gives back what was written with the vote
        page.keyboard.press("u")
        expect(page.locator("#reason")).to_have_value("12345 0 sfud? r")
    page.close()
    site.store.close()


def test_a_vote_that_was_not_confirmed_before_the_page_closed_can_be_sent_again(chromium: Any, tmp_path: Path) -> None:
    site = label_site(tmp_path, items=2, local=True)
    page = chromium.new_page()
    with running(site.app) as address:
        page.goto(f"{address}/label/{CAMPAIGN}")
        item, good_first = shown_item(page)
        page.route("**/vote", lambda route: route.abort("connectionreset"))
        page.click("button:has-text('A better')")
        page.wait_for_selector("#label-trouble:visible")
        page.unroute("**/vote")
        page.reload()
        assert "“A better” was not confirmed" in page.inner_text("#label-trouble p")
        page.click("#label-trouble button")
        expect(page.locator("#first-text")).not_to_contain_text(f"question {item}.")
    assert stored(site) == {item: expected_row("2", good_first)}
    page.close()
    site.store.close()


def test_double_click_second_tab_and_back_button_give_one_vote_each(chromium: Any, tmp_path: Path) -> None:
    site = label_site(tmp_path, items=4, local=True)
    context = chromium.new_context()
    page, tab = context.new_page(), context.new_page()
    with running(site.app) as address:
        page.goto(f"{address}/label/{CAMPAIGN}")
        tab.goto(f"{address}/label/{CAMPAIGN}")
        item, good_first = shown_item(page)
        assert shown_item(tab) == (item, good_first)
        page.dblclick("button:has-text('A better')")
        page.wait_for_selector("text=Recorded: A better.")
        page.wait_for_timeout(300)
        assert stored(site) == {item: expected_row("2", good_first)}
        # the second tab still shows the item, and says that the vote was given
        tab.keyboard.press("5")
        tab.wait_for_selector("text=You had voted on that item before")
        assert stored(site) == {item: expected_row("2", good_first)}
        second = shown_item(page)
        assert shown_item(tab) == second
        # the back button leads to the item that is open now, not to one with a vote
        page.goto(f"{address}/label")
        page.go_back()
        page.wait_for_selector("#ballot")
        assert shown_item(page) == second
        vote(page, "4")
    assert stored(site) == {item: expected_row("2", good_first), second[0]: expected_row("4", second[1])}
    context.close()
    site.store.close()


def test_active_time_counts_idle_gaps_for_a_minute_and_no_hidden_page(chromium: Any, tmp_path: Path) -> None:
    site = label_site(tmp_path, items=3, local=True)
    context = chromium.new_context()
    page = context.new_page()
    page.clock.install()
    with running(site.app) as address:
        page.goto(f"{address}/label/{CAMPAIGN}")
        page.clock.run_for(10_000)
        page.mouse.move(50, 50)
        page.clock.run_for(600_000)  # ten minutes without a sign of life count as one
        vote(page, "3")
    (row,) = vote_rows(site.store)
    assert row.seconds == pytest.approx(70, abs=5)
    assert row.seconds_total == pytest.approx(610, abs=5)
    context.close()
    site.store.close()


def test_differences_are_toggled_in_place(chromium: Any, tmp_path: Path) -> None:
    site = label_site(tmp_path, items=2, local=True)
    page = chromium.new_page()
    with running(site.app) as address:
        page.goto(f"{address}/label/{CAMPAIGN}")
        _, good_first = shown_item(page)
        page.keyboard.press("d")
        page.wait_for_selector("#first-difference:visible")
        assert page.is_hidden("#first-text")
        slots = ("first", "second") if good_first else ("second", "first")
        assert "**good**" in page.inner_text(f"#{slots[0]}-difference {'del' if good_first else 'ins'}")
        assert page.get_attribute("#differences", "aria-pressed") == "true"
        page.keyboard.press("d")
        page.wait_for_selector("#first-text:visible")
        page.keyboard.press("?")
        assert page.is_visible("#label-help")
        page.keyboard.press("1")  # not a vote while the help is open
        page.keyboard.press("?")
        assert page.is_hidden("#label-help")
        page.keyboard.press("?")
        page.uncheck("#keys-on")
        page.keyboard.press("Escape")
        page.keyboard.press("1")
    assert vote_rows(site.store) == []
    page.close()
    site.store.close()


def test_the_forms_work_without_a_script(chromium: Any, tmp_path: Path) -> None:
    site = label_site(tmp_path, items=2, schema=SCHEMA, local=True)
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    with running(site.app) as address:
        page.goto(f"{address}/label/{CAMPAIGN}")
        item, good_first = shown_item(page)
        page.click("text=Differences")
        assert page.inner_text("h1") == "Differences"
        page.click("text=Back to the item")
        page.click("summary:has-text('Reason')")
        page.fill("#reason", "plain")
        page.click("button:has-text('B much better')")
        assert page.inner_text("#label-status") == "Recorded: B much better."
        page.click("button:has-text('Undo')")
        assert shown_item(page) == (item, good_first)
        page.click("button:has-text('B much better')")
    assert stored(site) == {item: expected_row("5", good_first)}
    context.close()
    site.store.close()
