"""Reviewers see votes that disagree without names, decide, and then see the names; admins see figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from label_site import CAMPAIGN, MODELS, bad, good, label_site, vote_rows
from palate.feedback.campaigns.campaign import CampaignSchema
from palate.feedback.queue.review import progress
from sites import Site, Structure, csrf

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
SCHEMA = CampaignSchema(votes_per_item=2, tags=("short",), dimensions=("accuracy",))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The annotator and the admin have voted on two items: for the good answer, and one of them against it once."""
    made = label_site(tmp_path, items=2, schema=SCHEMA)
    label(made, "annotator", {0: "good", 1: "good"}, reason="the better one", seconds="20", **{"tags": "short"})
    label(made, "admin", {0: "good", 1: "bad"}, reason="I see it otherwise", seconds="10")
    yield made
    made.store.close()


def label(site: Site, name: str, wanted: dict[int, str], **more: str) -> None:
    """Vote for the good or the bad answer of each item; or flag it."""
    client = site.client(name)
    for _ in wanted:
        page = client.get(f"/label/{CAMPAIGN}", headers=PAGE).text
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)"', page))
        first = Structure(page.partition('id="first-text">')[2].partition("</div>")[0]).text
        number = int(re.findall(r"question (\d)", first)[0])
        choice = "first" if (wanted[number] == "good") == ("good" in first) else "second"
        sent = {**fields, "choice": "flag" if wanted[number] == "flag" else choice, **more}
        assert client.post(f"/label/{CAMPAIGN}/vote", data=sent, headers=PAGE).status_code == 303


def open_conflict(site: Site, name: str = "reviewer") -> tuple[str, str]:
    """Address and text of the only conflict."""
    client = site.client(name)
    found = re.findall(
        r'href="(/label/[^"]+/conflicts/\d+)"', client.get(f"/label/{CAMPAIGN}/conflicts", headers=PAGE).text
    )
    assert len(found) == 1
    return found[0], client.get(found[0], headers=PAGE).text


def test_the_votes_of_a_conflict_are_shown_without_names_until_the_decision(site: Site) -> None:
    address, page = open_conflict(site)
    main = page.partition("<main")[2].partition("</main>")[0]
    assert good(1).replace("*", "") in Structure(main).text
    assert bad(1) in Structure(main).text
    rows = re.findall(r'<th scope="row">(.*?)</th>\s*<td>(.*?)</td>\s*<td><span[^>]*>(.*?)</span>', main, re.DOTALL)
    assert [(who.strip(), vote.strip(), why) for who, vote, why in rows] == [
        ("Voter 1", "A better", "the better one"),
        ("Voter 2", "B better", "I see it otherwise"),
    ]
    for word in ("annotator", "admin", *MODELS):
        assert word not in main
    client = site.client("reviewer")
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)"', main))
    sent = {**fields, "choice": "first_much", "reason": "checked"}
    answer = client.post(address, data=sent, headers=PAGE | csrf(site, client))
    assert (answer.status_code, answer.headers["location"]) == (303, address)
    assert client.post(address, data=sent, headers=PAGE | csrf(site, client)).status_code == 303  # twice: one vote
    decided = client.get(address, headers=PAGE).text.partition("<main")[2]
    for word in ("annotator", "admin", "reviewer", "A much better", "(decides)"):
        assert word in decided
    (row,) = [row for row in vote_rows(site.store) if row.deciding]
    assert (row.outcome, row.strength, row.who, row.reason) == ("left", 2, "reviewer", "checked")
    assert "No item waits" in client.get(f"/label/{CAMPAIGN}/conflicts", headers=PAGE).text
    # another reviewer still sees no names
    assert "Voter 1" in site.client("admin").get(address, headers=PAGE).text


@pytest.mark.parametrize("choice", ["skip", "flag", ""])
def test_a_decision_must_decide(site: Site, choice: str) -> None:
    address, _ = open_conflict(site)
    client = site.client("reviewer")
    sent = {"choice": choice, "request_key": "k"}
    assert client.post(address, data=sent, headers=PAGE | csrf(site, client)).status_code == 400
    assert not [row for row in vote_rows(site.store) if row.deciding]


@pytest.mark.parametrize("number", [999, 2**31, 2**63, 10**40, "x"])
def test_a_task_that_is_not_there(site: Site, number: int | str) -> None:
    client = site.client("reviewer")
    path = f"/label/{CAMPAIGN}/conflicts/{number}"
    assert client.get(path, headers=PAGE).status_code == 404
    sent = {"choice": "first", "request_key": "k"}
    assert client.post(path, data=sent, headers=PAGE | csrf(site, client)).status_code == 404


def test_an_admin_sees_progress_people_and_flags(site: Site) -> None:
    page = site.client("admin").get(f"/label/{CAMPAIGN}/admin", headers=PAGE).text
    text = " ".join(Structure(page).text.split())
    assert "Votes4 of 4" in text
    assert "Tasks finished2 of 2" in text
    assert "Conflicts1 without a decision" in text
    cells = {
        name: [Structure(cell).text.strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        for name, row in re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', page, re.DOTALL)
    }
    # votes, skipped, flagged, votes per active hour: 2 votes of 20 s are 180 an hour, of 10 s 360
    assert cells["annotator"][:4] == ["2", "0", "0", "180"]
    assert cells["admin"][:4] == ["2", "0", "0", "360"]
    assert re.fullmatch(r"(0|50|100) % \(.*\)\s+p = \S+", " ".join(cells["admin"][4].split()))
    assert cells["admin"][5:] == ["–", "–"]
    assert "No flagged item" in text


def test_flagged_items_are_listed_with_their_reason(tmp_path: Path) -> None:
    site = label_site(tmp_path, items=2)
    label(site, "annotator", {0: "flag", 1: "good"}, reason="has a <phone> number")
    page = site.client("admin").get(f"/label/{CAMPAIGN}/admin", headers=PAGE).text
    flagged = page.partition("Flagged items")[2]
    assert "prompts.jsonl:0" in flagged
    assert "prompts.jsonl:1" not in flagged
    assert "has a &lt;phone&gt; number" in flagged
    site.store.close()


def test_the_agreement_of_two_people(site: Site) -> None:
    page = site.client("admin").get(f"/label/{CAMPAIGN}/agreement", headers=PAGE).text
    text = " ".join(Structure(page).text.split())
    assert "Votes: 4, people: 2, pairs of answers: 2, with two votes or more: 2." in text
    # one of two pairs agrees: 0.50; by chance ½·1 + ½·½ … of (left, left) and (left, right) also ½, so κ is 0
    assert "Equal votes0.50" in text
    assert "Cohen's κ0.00" in text
    assert "undefined" not in text


def test_empty_campaigns_have_all_pages(tmp_path: Path) -> None:
    site = label_site(tmp_path, items=1)
    client = site.client("admin")
    for path in ("conflicts", "admin", "agreement"):
        assert client.get(f"/label/{CAMPAIGN}/{path}", headers=PAGE).status_code == 200
    assert "undefined: no item has two" in client.get(f"/label/{CAMPAIGN}/agreement", headers=PAGE).text
    site.store.close()


def test_a_flagged_item_waits_until_a_reviewer_has_decided_it(tmp_path: Path) -> None:
    site = label_site(tmp_path, items=1)
    label(site, "annotator", {0: "flag"})
    assert site.store.read(lambda session: progress(session, CAMPAIGN)).flagged == 1
    address, _ = open_conflict(site)
    client = site.client("reviewer")
    sent = {"choice": "first", "request_key": "k"}
    assert client.post(address, data=sent, headers=PAGE | csrf(site, client)).status_code == 303
    assert site.store.read(lambda session: progress(session, CAMPAIGN)).flagged == 0
    site.store.close()
