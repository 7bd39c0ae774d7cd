"""The page of a loop: its steps, what it waits for, verdicts, past cycles and the DEBUG report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_world import LOOP, make_world
from pages_site import pages_site
from sites import Site, csrf, make_site

PAGE = {"Accept": "text/html"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = pages_site(tmp_path, votes=1, text="twenty votes")
    yield made
    made.store.close()


def words(site: Site, path: str, status: int = 200) -> str:
    found = site.client("reviewer").get(path, headers=PAGE)
    assert found.status_code == status
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found.text.partition("<main")[2]))


def test_the_list_says_what_each_loop_waits_for(site: Site) -> None:
    text = words(site, "/loop")
    assert "support Cycle 2 goes on." in text
    assert "Waits for the cause of the failure of sample to be removed." in text


def test_steps_with_times_waits_errors_and_commands(site: Site) -> None:
    text = words(site, "/loop/support")
    assert "v1.0 serves; v1.1 is the candidate" in text
    assert "collect done 2026-05-04 10:00 to 10:00 UTC Figures and command" in text
    assert "palate data from-interactions --sample 300" in text
    assert "interactions 812 of uniform 150, thumbs down 75" in text
    assert "sample failed 2026-05-04 10:00 UTC , attempt 2 twenty votes" in text
    assert "Waits for votes of people (twenty votes), until 2026-05-05 10:00 UTC" in text
    assert text.count("not begun") == 8
    assert "PASS v1.1 in place of v1.0" in text


def test_past_cycles_have_their_outcome_and_debug_report(site: Site) -> None:
    assert "1 rejected v0.9 v1.0 2026-04-29 10:00 UTC twenty votes DEBUG report" in words(site, "/loop/support")
    client = site.client("reviewer")
    (report,) = re.findall(r'href="(/reports/[^"]+)"', client.get("/loop/support", headers=PAGE).text)
    assert "What went wrong" in client.get(report).text


def test_a_verdict_signed_on_the_page_is_deployed_by_the_next_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real loop whose models are a few numbers: first a PASS that waits for a person, then a FAIL with its report."""
    made = make_site(tmp_path, local=True, runs=(tmp_path / "cycles",))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALATE_STORE", made.store.url)
    world = make_world(tmp_path, made.store, made.store.url, f"{LOOP}schedule: none\n")
    world.verdicts = ["PASS", "FAIL"]

    def run(number: int) -> None:
        world.talk(8)
        world.tick()
        world.vote(f"support-{number:04}")
        world.tick()

    run(1)
    client = made.client()
    page = client.get("/loop/support", headers=PAGE).text
    assert "Waits for a person to sign the verdict on v1.1" in page
    (address,) = re.findall(r'action="(/models/v1.1/verdicts/\d+)"', page)
    signed = client.post(address, data={"action": "sign", "reason": "looks right"}, headers=PAGE | csrf(made, client))
    assert signed.status_code == 303
    assert world.tick().outcome == "deployed"
    assert "by local" in client.get("/models/production", headers=PAGE).text
    assert 'href="/models/v1.1"' in client.get("/runs/0001/train", headers=PAGE).text
    run(2)
    page = client.get("/loop/support", headers=PAGE).text
    assert "v1.2, whose verdict is FAIL" in page
    (report,) = set(re.findall(r'href="(/reports/[^"]+)"', page))
    assert report == "/reports/0002/debug/debug.html"
    assert client.get(report).status_code == 200
    made.store.close()


def test_a_loop_that_is_not_there_is_one_line(site: Site) -> None:
    assert "There is no loop other that has begun a cycle." in words(site, "/loop/other", 404)


def test_without_a_loop_the_page_says_how_to_begin_one(local_site: Site) -> None:
    assert "No loop has begun a cycle yet." in local_site.client().get("/loop", headers=PAGE).text
