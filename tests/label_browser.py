"""What people do on the labelling page with a browser."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from label_site import CAMPAIGN
from sites import PASSWORD


def log_in(page: Any, address: str, name: str = "annotator") -> None:
    page.goto(f"{address}/label/{CAMPAIGN}")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_selector("#ballot")
    page.wait_for_load_state()  # a key that is pressed before the page's script runs is lost


def vote(page: Any, key: str) -> None:
    """Press a key and wait for the next item."""
    before = page.get_attribute("#ballot", "data-draft")
    page.keyboard.press(key)
    wait_for_another_item(page, before)


def wait_for_another_item(page: Any, before: str) -> None:
    """Until the form of item ``before`` is gone; ``wait_for_function`` would need an ``eval`` that the pages forbid."""
    expect(page.locator(f"#ballot[data-draft='{before}']")).to_have_count(0)
