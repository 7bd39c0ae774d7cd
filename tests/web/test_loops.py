"""The page of a loop: its steps, what it waits for, verdicts, past cycles and the DEBUG report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages_site import pages_site
from sites import Site

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
    assert "collect done 2026-05-04 10:00 UTC to 2026-05-04 10:00 UTC Figures and command" in text
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


def test_a_loop_that_is_not_there_is_one_line(site: Site) -> None:
    assert "There is no loop other that has begun a cycle." in words(site, "/loop/other", 404)


def test_without_a_loop_the_page_says_how_to_begin_one(local_site: Site) -> None:
    assert "No loop has begun a cycle yet." in local_site.client().get("/loop", headers=PAGE).text
