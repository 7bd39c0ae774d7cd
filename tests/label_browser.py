"""What people do on the labelling page with a browser."""

from __future__ import annotations

from typing import Any

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
    page.wait_for_function("(before) => document.querySelector('#ballot')?.dataset.draft !== before", arg=before)
