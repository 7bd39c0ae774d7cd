"""All pages of `palate web` in a browser: wide and on a phone, light and dark, without script, and live metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from browser import needs_browser, overflow, serious_findings
from pages_site import ANSWER, pages_site
from run_files import write_run
from sites import Site, running

pytestmark = needs_browser

PATHS = (
    *("/", "/runs", "/runs/dpo", "/runs/live", "/runs/rounds", "/runs/sweep", "/runs/broken", "/runs/nothing"),
    *("/compare", "/compare?run=dpo&run=kto", "/models", "/models/v1.0", "/models/v1.1", "/models/v1.1/votes"),
    *(f"/models/find?id={ANSWER}", "/models/find?id=vote-003", "/loop", "/loop/support", "/reports/dpo/report.html"),
)
LONG = "a reason " * 20 + "averyveryverylongword" * 6


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = pages_site(tmp_path, votes=6, text=LONG, local=True)
    yield made
    made.store.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in ((390, "light"), (1280, "light"), (1280, "dark"))),
    ],
)
def test_every_page_is_accessible_and_fits(chromium: Any, site: Site, width: int, scheme: str) -> None:
    found: dict[str, list[str]] = {}
    with running(site.app) as address:
        context = chromium.new_context(base_url=address, color_scheme=scheme, viewport={"width": width, "height": 800})
        page = context.new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
        page.on("pageerror", lambda error: refused.append(str(error)))
        for path in PATHS:
            page.goto(path)
            page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            # Nothing runs in the sandbox of a report, axe-core neither.
            found[path] = ([] if path.startswith("/reports/") else serious_findings(page)) + overflow(page) + refused
            refused.clear()
        context.close()
    assert {path: findings for path, findings in found.items() if findings} == {}


def test_the_pages_work_without_script(chromium: Any, site: Site) -> None:
    with running(site.app) as address:
        context = chromium.new_context(base_url=address, java_script_enabled=False)
        page = context.new_page()
        page.goto("/runs")
        page.check("input[value='dpo']")
        page.check("input[value='kto']")
        page.click("button:has-text('Compare')")
        assert page.url == f"{address}/compare?run=kto&run=dpo" or page.url == f"{address}/compare?run=dpo&run=kto"
        page.goto("/models")
        page.fill("input[name='id']", ANSWER)
        page.click("button:has-text('Find')")
        page.click("a:has-text('6 votes'), a:has-text('7 votes')")
        page.click("main th a >> nth=0")
        assert "/label/answers/conflicts/" in page.url
        page.goto("/models/v1.1")
        page.fill("input[name='reason'] >> nth=0", "looks right")
        page.click("button:has-text('Sign')")
        page.wait_for_selector("text=looks right")
        context.close()


def test_metrics_of_a_running_run_renew_themselves_until_it_ends(chromium: Any, site: Site, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "live"
    with running(site.app) as address:
        context = chromium.new_context(base_url=address)
        page = context.new_page()
        page.clock.install()
        page.goto("/runs/live")
        page.click("summary:has-text('Table of metrics')")
        page.wait_for_selector("text=30 steps")
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"step": 31, "split": "train", "loss": 0.2, "rewards/margins": 1.0}\n')
        with page.expect_response("**/runs/live?seen=*"):
            page.clock.run_for(5_100)
        page.clock.resume()  # htmx swaps in a timer
        page.wait_for_selector("text=31 steps")
        # What was unfolded stays so, with the focus.
        expect(page.locator("#live details[open] summary")).to_be_focused()
        facts = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(facts | {"status": "completed"}))
        page.wait_for_selector(".badge:has-text('completed')")
        assert page.get_attribute("#live", "hx-get") is None
        context.close()


def test_a_sweep_renews_itself_and_leads_to_the_run_that_goes_on(chromium: Any, site: Site, tmp_path: Path) -> None:
    second = tmp_path / "runs" / "sweep" / "pref_beta-0.1" / "run.json"
    with running(site.app) as address:
        context = chromium.new_context(base_url=address)
        page = context.new_page()
        page.clock.install()
        page.goto("/runs/sweep")
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "30")
        second.write_text(json.dumps(json.loads(second.read_text()) | {"status": "completed"}))
        with page.expect_response("**/runs/sweep?seen=*"):
            page.clock.run_for(10_100)
        page.clock.resume()
        expect(page.locator(".progress")).to_contain_text("Run 3 of 3: pref_beta-0.5 not begun")
        page.click("th a:has-text('2')")
        page.wait_for_url("**/runs/sweep/pref_beta-0.1")
        page.click("a:has-text('sweep sweep')")
        page.wait_for_url("**/runs/sweep")
        context.close()


def test_a_reason_that_is_being_typed_is_not_lost(chromium: Any, site: Site, tmp_path: Path) -> None:
    with running(site.app) as address:
        context = chromium.new_context(base_url=address)
        page = context.new_page()
        page.clock.install()
        page.goto("/loop/support")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/loop/" in request.url else None)
        page.fill("input[name='reason']", "half a rea")
        page.clock.run_for(40_000)
        assert page.input_value("input[name='reason']") == "half a rea"
        assert asked == []
        page.fill("input[name='reason']", "")
        with page.expect_response("**/loop/support"):
            page.clock.run_for(16_000)
        # The chosen runs of the list stay chosen.
        page.goto("/runs")
        page.check("input[value='kto']")
        write_run(tmp_path / "runs" / "new", steps=3)
        with page.expect_response("**/runs?page=1"):
            page.clock.run_for(11_000)
        page.clock.resume()
        page.wait_for_selector("a:has-text('new')")
        expect(page.locator("input[value='kto']")).to_be_checked()
        context.close()
