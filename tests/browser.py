"""Debian's chromium for the tests of the pages; tests skip where it is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@contextmanager
def browser() -> Iterator[Any]:
    """A headless browser of playwright."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # as long as other waits; by itself it has 5 s
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield found
        finally:
            found.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser of a file's tests; an open one would keep other files' from running an event loop."""
    with browser() as found:
        yield found


def serious_findings(page: Any) -> list[str]:
    """What axe-core finds on a page that is serious or critical, with the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {[node['target'] for node in rule['nodes']]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def overflow(page: Any) -> list[str]:
    """Elements that are wider than the page; `HTML` if text that leaves its box makes the page wider."""
    found: list[str] = page.evaluate(
        """() => {
            const page = document.documentElement;
            const wide = [...document.querySelectorAll("body *")]
                .filter((node) => node.getBoundingClientRect().right > page.clientWidth + 1
                                  && !node.closest(".visually-hidden, .skip, .markdown table > *")
                                  && !node.closest(".report .scroll > *, .report figure > *"))
                .map((node) => node.tagName + "." + node.className);
            return page.scrollWidth > page.clientWidth ? ["HTML", ...wide] : wide;
        }"""
    )
    return found
