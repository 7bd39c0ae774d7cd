"""The labelling pages, wide and on a phone, light and dark: no serious finding of axe-core, nothing overflows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser import needs_browser, overflow, serious_findings
from label_browser import log_in, wait_for_another_item
from label_site import CAMPAIGN, bad, good, label_site
from palate.feedback.campaigns.campaign import CampaignSchema
from sites import running

pytestmark = needs_browser


LONG = (
    "## A heading\n\nSome `code` and a list:\n\n- one\n- two\n\n```python\n"
    "def area(radius):\n    return 3.14159 * radius ** 2  # "
    + "a long comment " * 12
    + "\n```\n\n| name | value |\n|---|---:|\n| "
    + "averyveryverylongword" * 6
    + " | 1 |\n\n"
    + "|".join(f" column {number} " for number in range(12))
    + "\n"
    + "|".join(["---"] * 12)
    + "\n\n[a link](https://example.org/)"
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_serious_finding_of_axe_and_no_overflow_on_any_page(
    chromium: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    schema = CampaignSchema(
        criteria="Correct, then short.", tags=("wrong", "rude"), dimensions=("accuracy",), votes_per_item=2
    )
    site = label_site(tmp_path, items=2, schema=schema, answers=[(LONG, LONG + " more words here"), (good(1), bad(1))])
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    found: dict[str, list[str]] = {}

    def check(name: str, page: Any) -> None:
        found[name] = serious_findings(page) + overflow(page)

    with running(site.app) as address:
        page = context.new_page()
        page.goto(f"{address}/login")
        check("login", page)
        log_in(page, address, "admin")
        check("item", page)
        page.keyboard.press("r")
        check("reason", page)
        page.keyboard.press("Escape")
        page.keyboard.press("d")
        page.wait_for_selector("#first-difference:visible")
        check("differences", page)
        page.keyboard.press("?")
        check("keys", page)
        page.keyboard.press("Escape")
        page.wait_for_selector("#label-help", state="hidden")
        page.keyboard.press("d")
        page.wait_for_selector("#first-text:visible")
        first = page.inner_text("#first-text")
        page.route("**/vote", lambda route: route.abort())
        page.click('#ballot button[aria-keyshortcuts="1"]')
        page.wait_for_selector("#label-trouble:visible")
        check("no connection", page)
        page.unroute("**/vote")
        page.click("#label-trouble button")
        page.wait_for_selector("text=Recorded")
        chosen = {first, *vote_all(page, lambda text: "1")}
        check("finished", page)
        second = context.browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        other = second.new_page()
        log_in(other, address, "reviewer")
        vote_all(other, lambda text: "5" if text in chosen else "1")  # against the admin
        for path in (
            "/label",
            f"/label/{CAMPAIGN}/conflicts",
            f"/label/{CAMPAIGN}/admin",
            f"/label/{CAMPAIGN}/agreement",
        ):
            page.goto(address + path)
            check(path, page)
        page.goto(f"{address}/label/{CAMPAIGN}/conflicts")
        page.click("main a[href*='/conflicts/'] >> nth=0")
        check("conflict", page)
        page.click("button:has-text('A much better')")
        page.wait_for_selector("text=You have decided")
        check("decided", page)
        second.close()
    context.close()
    assert {name: findings for name, findings in found.items() if findings} == {}
    assert len(found) == 13
    site.store.close()


def test_the_figures_of_an_admin_are_renewed(chromium: Any, tmp_path: Path) -> None:
    site = label_site(tmp_path, items=2)
    context = chromium.new_context()
    with running(site.app) as address:
        page = context.new_page()
        log_in(page, address, "admin")
        page.clock.install()
        page.goto(f"{address}/label/{CAMPAIGN}/admin")
        page.wait_for_selector("dd:has-text('0 of 2') >> nth=0")
        other = context.browser.new_context().new_page()
        log_in(other, address, "annotator")
        vote_all(other, lambda text: "1")
        with page.expect_response("**/admin"):
            page.clock.run_for(31_000)
        page.clock.resume()  # htmx swaps in a timer
        page.wait_for_selector("dd:has-text('1 of 2') >> nth=0")  # the admin holds the other item
        other.context.close()
    context.close()
    site.store.close()


def vote_all(page: Any, key_for: Callable[[str], str]) -> set[str]:
    """Vote on every open item by the button with the key for the text of answer A; returns those texts."""
    texts = set()
    while page.locator("#ballot").count():
        before = page.get_attribute("#ballot", "data-draft")
        text = page.inner_text("#first-text")
        texts.add(text)
        page.click(f'#ballot button[aria-keyshortcuts="{key_for(text)}"]')
        wait_for_another_item(page, before)
    return texts
