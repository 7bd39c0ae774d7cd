"""Versions with their lineage, from a served answer to the votes, and what admins may do to verdicts and canaries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from pages_site import ANSWER, gate_facts, pages_site
from palate.registry import promote, versions
from palate.registry.canary import canary_of
from palate.registry.verdicts import record_verdict, verdicts
from palate.store.loop_tables import GateRun
from sites import Site, csrf

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = pages_site(tmp_path_factory.mktemp("pages"))
    yield made
    made.store.close()


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    made = pages_site(tmp_path, votes=3)
    yield made
    made.store.close()


def words(site: Site, path: str, who: str = "reviewer", status: int = 200) -> str:
    """The text of a page."""
    found = site.client(who).get(path, headers=PAGE)
    assert found.status_code == status, found.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found.text.partition("<main")[2]))


def post(site: Site, who: str, path: str, **form: str) -> int:
    client = site.client(who)
    return client.post(path, data=form, headers=PAGE | csrf(site, client)).status_code


def test_the_list_has_aliases_canary_and_last_verdict(site: Site) -> None:
    text = words(site, "/models")
    assert "v1.0 production model –" in text
    assert "v1.1 – model v1.0 PASS" in text
    assert "canary v1.1 answers 10.0 % of the people of production" in text


def test_a_version_down_to_its_votes_and_up_to_its_run(site: Site) -> None:
    text = words(site, "/models/v1.1")
    assert "v1.1 learnt from 61 votes , 60 of them in this database. Voter Kind Votes ann person 40" in text
    assert "openai:judge judge 20" in text
    assert "v1.0 was not trained on votes" in text
    assert "pairs pairs.jsonl aaaaaaaaaaaa" in text
    assert "cycle/train : dpo sigmoid Trained from v1.0" in text
    assert "truthfulqa/mc1 open −0.01 −0.042 0.02 falls by less than 3 points 310" in text
    assert "win rate passed 61.0 % 54.0 % 68.0 %" in text
    assert "Version v1.0; trained from it: v1.1" in words(site, "/models/production")


def test_votes_one_by_one_with_links_to_their_items(site: Site) -> None:
    client = site.client("reviewer")
    first = client.get("/models/v1.1/votes", headers=PAGE).text
    assert first.count('scope="row"') == 50
    item = re.search(r'href="(/label/answers/conflicts/\d+)"', first)
    assert item is not None
    assert client.get(item[1], headers=PAGE).status_code == 200
    second = words(site, "/models/v1.1/votes?page=2")
    assert "not in this database – – – – vote-060" in second
    assert "ann answers openai:judge left 2026-05-04 10:57 UTC vote-057" in second


def test_from_a_served_answer_to_its_votes_and_from_a_vote_to_its_versions(site: Site) -> None:
    text = words(site, f"/models/find?id=%20{ANSWER}%20")
    assert "By v1.1 Route canary:production, probability 0.1" in text
    assert "v1.1 learnt from 61 votes" in text
    assert "gpt-x, which is no version" in words(site, "/models/find?id=chatcmpl-elsewhere")
    assert "ann of By" not in words(site, "/models/find?id=vote-003")
    assert "Learnt by v1.1" in words(site, "/models/find?id=vote-003")
    assert "not in this database Learnt by v1.1" in words(site, "/models/find?id=vote-060")


def test_a_damaged_data_json_is_named_and_the_rest_stays(own_site: Site) -> None:
    folder = next(one.folder for one in versions(own_site.store) if one.name == "v1.1")
    (folder / "data.json").write_text("{")
    text = words(own_site, "/models/v1.1")
    assert "What v1.1 learnt from is not known: data.json: not valid JSON at line 1" in text
    assert "v1.0 was not trained on votes" in text
    assert "no vote that a version learnt from" in words(own_site, "/models/find?id=vote-001", status=404)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/models/v9", "There is no version v9."),
        ("/models/v9/votes", "There is no version v9."),
        ("/models/find?id=x", "x: no recorded answer, and no vote that a version learnt from."),
        ("/models/find", ": no recorded answer, and no vote that a version learnt from."),
    ],
)
def test_what_is_not_there_is_one_line(site: Site, path: str, line: str) -> None:
    assert line in words(site, path, status=404)


def test_an_admin_signs_and_rejects_and_it_stays(own_site: Site) -> None:
    (verdict,) = own_site.store.read(verdicts)
    path = f"/models/v1.1/verdicts/{verdict.id}"
    assert post(own_site, "admin", path, action="sign", reason="looks right") == 303
    assert post(own_site, "admin", path, action="reject", reason="on second thought") == 303
    text = words(own_site, "/models/v1.1")
    assert "signed by admin," in text
    assert ": looks right rejected by admin," in text
    assert "PASS rejected" in words(own_site, "/models")


@pytest.mark.parametrize("who", ["annotator", "reviewer"])
def test_others_have_no_buttons_and_are_refused(own_site: Site, who: str) -> None:
    (verdict,) = own_site.store.read(verdicts)
    assert post(own_site, who, f"/models/v1.1/verdicts/{verdict.id}", action="sign", reason="x") == 403
    assert post(own_site, who, "/models/v1.1/canary/end", alias="production", reason="x") == 403
    assert own_site.store.read(verdicts)[0].decisions == ()
    assert own_site.store.read(canary_of) is not None
    if who == "reviewer":
        for path in ("/models", "/models/v1.1", "/loop/support"):
            assert 'method="post" action="/models' not in own_site.client(who).get(path, headers=PAGE).text


def test_a_decision_needs_the_token_of_the_page(own_site: Site) -> None:
    (verdict,) = own_site.store.read(verdicts)
    form = {"action": "sign", "reason": "x"}
    path = f"/models/v1.1/verdicts/{verdict.id}"
    assert own_site.client("admin").post(path, data=form, headers=PAGE).status_code == 403
    assert own_site.store.read(verdicts)[0].decisions == ()


def test_what_does_not_fit_the_verdict_is_refused(own_site: Site) -> None:
    (verdict,) = own_site.store.read(verdicts)
    own_site.store.write(lambda session: _fail(session))
    path = f"/models/v1.1/verdicts/{verdict.id}"
    assert post(own_site, "admin", path, action="sign", reason="x") == 400
    assert post(own_site, "admin", path, action="reject", reason=" ") == 400
    assert post(own_site, "admin", path, action="force", reason="x") == 422  # by the command line only
    assert post(own_site, "admin", f"/models/v1.0/verdicts/{verdict.id}", action="reject", reason="x") == 404
    assert post(own_site, "admin", "/models/v1.1/verdicts/99", action="reject", reason="x") == 404
    assert own_site.store.read(verdicts)[0].decisions == ()
    assert 'value="sign"' not in own_site.client("admin").get("/models/v1.1", headers=PAGE).text


def test_an_admin_ends_a_canary(own_site: Site) -> None:
    assert post(own_site, "admin", "/models/v1.0/canary/end", alias="production", reason="x") == 404
    assert post(own_site, "admin", "/models/v1.1/canary/end", alias="candidate", reason="x") == 404
    assert post(own_site, "admin", "/models/v1.1/canary/end", alias="production", reason="too many thumbs down") == 303
    assert own_site.store.read(canary_of) is None
    assert "production ended" in words(own_site, "/models/v1.1")
    assert "too many thumbs down" in words(own_site, "/models/v1.1")


def test_a_forced_promotion_stays_visible(own_site: Site) -> None:
    record_verdict(own_site.store, gate_facts("FAIL") | {"attempt": 2, "inputs": {"winrate.json": "b" * 64}})
    promote(own_site.store, "v1.1", reason="the judge is wrong", who="eve", force=True)
    text = words(own_site, "/models/v1.1")
    assert "forced by eve," in text
    assert ": the judge is wrong" in text
    assert "FAIL forced" in words(own_site, "/models")


def _fail(session: Session) -> None:
    session.execute(update(GateRun).values(outcome="INCONCLUSIVE"))
