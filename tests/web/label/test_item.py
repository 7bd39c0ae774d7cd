"""The labelling page over HTTP: blind, one vote for each form, undo, differences, errors in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from label_site import CAMPAIGN, MODELS, bad, good, item_names, label_site, vote_rows
from palate.errors import UsageError
from palate.feedback.campaigns.campaign import CampaignSchema, find_campaign
from palate.records import Message, ToolCall
from palate.store import Store
from palate.web.label.conversation import code, prompt_blocks
from palate.web.label.item import _texts
from sites import Site, Structure, csrf

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
SCHEMA = CampaignSchema(criteria="Correct first, then short.", tags=("wrong", "rude"), dimensions=("accuracy", "style"))


@pytest.fixture
def site(tmp_path: Path) -> Any:
    made = label_site(tmp_path, items=4, schema=SCHEMA)
    yield made
    made.store.close()


class Annotator:
    """A person who reads the page and sends its forms, without a script."""

    def __init__(self, site: Site, name: str = "annotator") -> None:
        self.site = site
        self.client = site.client(name)
        self.open()

    def open(self, query: str = "") -> Response:
        self.page = self.client.get(f"/label/{CAMPAIGN}{query}", headers=PAGE)
        assert self.page.status_code == 200, self.page.text
        return self.page

    @property
    def fields(self) -> dict[str, str]:
        """The hidden fields of the page's form of a vote."""
        form = self.page.text.partition('id="ballot"')[2].partition("</form>")[0]
        found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)
        return dict(found)

    @property
    def answers(self) -> tuple[str, str]:
        """The texts of answer A and answer B as the page shows them."""
        found = re.findall(r'id="(?:first|second)-text">(.*?)</div>\s*<div id', self.page.text, re.DOTALL)
        return tuple(Structure(part).text.strip() for part in found)  # type: ignore[return-value]

    def vote(self, choice: str, **more: Any) -> Response:
        data = {**self.fields, "choice": choice, **more}
        return self.client.post(f"/label/{CAMPAIGN}/vote", data=data, headers=PAGE)

    def undo(self, last: str | None = None) -> Response:
        form = self.page.text.partition('id="undo"')[2]
        shown = re.search(r'name="last_vote" value="([^"]*)"', form)
        assert shown is not None
        data = {"last_vote": shown[1] if last is None else last, "csrf_token": self.fields.get("csrf_token", "")}
        return self.client.post(f"/label/{CAMPAIGN}/undo", data=data, headers=PAGE | csrf(self.site, self.client))


def test_a_vote_is_about_the_texts_that_were_shown(site: Site) -> None:
    person, expected, sides = Annotator(site), {}, set()
    for choice in ("first", "second", "first_much", "second_much"):
        first, second = person.answers
        number = int(re.findall(r"question (\d)", first)[0])
        assert {first, second} == {good(number).replace("*", ""), bad(number)}
        better = first if choice.startswith("first") else second
        # answer 0 of each item is the good one, and `left`
        expected[f"prompts.jsonl:{number}"] = ("left" if "good" in better else "right", 2 if "much" in choice else 1)
        sides.add("good" in first)
        answer = person.vote(choice)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/label/{CAMPAIGN}?said={choice}")
        person.open()
    names = item_names(site.store)
    rows = vote_rows(site.store)
    assert {names[row.item_id]: (row.outcome, row.strength) for row in rows} == expected
    assert all(row.who == "annotator" and row.kind == "person" and not row.saw_judge for row in rows)
    assert len({row.shown for row in rows}) == len(sides), "the stored side is the side that was shown"
    assert "Nothing left to label" in person.page.text


def test_both_sides_occur_and_are_stored(tmp_path: Path) -> None:
    site = label_site(tmp_path, items=20)
    person = Annotator(site)
    good_first = {}
    for _ in range(20):
        first, _second = person.answers
        good_first[f"prompts.jsonl:{int(re.findall(r'question ([0-9]+)', first)[0])}"] = "good" in first
        person.vote("tie")
        person.open()
    names = item_names(site.store)
    assert {names[row.item_id]: row.shown == "left_first" for row in vote_rows(site.store)} == good_first
    assert 3 <= sum(good_first.values()) <= 17  # 20 fair coins are outside with a probability of 0.0004
    site.store.close()


def test_nothing_on_the_page_names_the_model_or_the_side(site: Site) -> None:
    person = Annotator(site)
    for _ in range(4):
        text = person.page.text
        for word in (*MODELS, "left_first", "right_first", "left", "right"):
            assert word not in Structure(text).text.lower()
            assert word not in text.partition("<main")[2]
        structure = Structure(text)
        ids = [value for _, name, value in structure.attributes if name in ("id", "class", "name", "data-draft")]
        assert not [value for value in ids if re.search(r"respon|number|model|answer-\d", value)]
        person.vote("tie")
        person.open()


def test_pages_of_items_with_the_answers_exchanged_differ_in_the_texts_only(tmp_path: Path) -> None:
    site = label_site(tmp_path, items=6)
    person, found = Annotator(site), set()
    for _ in range(6):
        found.add(tuple(tag for tag in Structure(person.page.text.partition("<main")[2]).tags if tag[0] != "strong"))
        person.vote("tie")
        person.open()
    assert len({len(tags) for tags in found}) <= 2  # the button of undo is disabled on the first page only
    site.store.close()


def test_reason_tags_scores_and_times_are_stored_for_the_right_answers(site: Site) -> None:
    person = Annotator(site)
    first, _ = person.answers
    more = {
        "reason": "  Because.\r\nReally.  ",
        "tags": ["rude", "wrong"],
        "score-first-accuracy": "5",
        "score-second-accuracy": "2",
        "score-first-style": "",
        "score-second-style": "",
        "seconds": "4.50",
        "seconds_total": "70.25",
    }
    assert person.vote("first", **more).status_code == 303
    (row,) = vote_rows(site.store)
    assert row.reason == "Because.\nReally."
    assert row.tags == ["rude", "wrong"]
    assert row.dimensions == {"accuracy": [5.0, 2.0] if "good" in first else [2.0, 5.0]}
    assert (row.seconds, row.seconds_total, row.schema_version) == (4.5, 70.25, 1)


def test_the_same_form_twice_is_one_vote(site: Site) -> None:
    person = Annotator(site)
    sent = [person.vote("first").headers["location"] for _ in range(2)]
    assert sent == [f"/label/{CAMPAIGN}?said=first"] * 2
    assert len(vote_rows(site.store)) == 1
    # the back button shows the old page; another choice does not change the vote
    assert person.vote("second").headers["location"].endswith("said=before")
    assert len(vote_rows(site.store)) == 1


def test_two_tabs_show_one_item_and_give_one_vote(site: Site) -> None:
    one, two = Annotator(site), Annotator(site)
    assert one.fields["lease"] == two.fields["lease"]
    assert one.fields["request_key"] != two.fields["request_key"]
    one.vote("first")
    two.vote("second")
    assert len(vote_rows(site.store)) == 1


def test_undo_opens_the_item_again_and_only_once(site: Site) -> None:
    person = Annotator(site)
    before = person.answers
    assert 'form="undo" class="plain" aria-keyshortcuts="u" disabled' in person.page.text
    person.vote("first")
    person.open()
    second_item = person.answers
    assert second_item != before
    last = re.search(r'name="last_vote" value="([^"]+)"', person.page.text)
    assert last is not None
    assert person.undo().headers["location"].endswith("?said=undone")
    person.open("?said=undone")
    assert "Undone. The item is open again." in person.page.text
    assert person.answers == before
    # the same form again: it undoes nothing, since that vote is not the last one any more
    assert person.undo(last[1]).headers["location"] == f"/label/{CAMPAIGN}"
    person.open()
    assert person.answers == before
    person.vote("second")
    rows = [row for row in vote_rows(site.store) if row.outcome in ("left", "right")]
    assert [(row.outcome == "left") == (row.shown == "left_first") for row in rows] == [False]


def test_skip_and_flag(site: Site) -> None:
    person = Annotator(site)
    person.vote("skip")
    person.open("?said=skip")
    assert "Skipped." in person.page.text
    person.vote("flag", reason="names a person")
    assert sorted((row.outcome, row.reason) for row in vote_rows(site.store)) == [
        ("flag", "names a person"),
        ("skip", ""),
    ]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"choice": ""}, "Choose one of the buttons."),
        ({"choice": "left"}, "Choose one of the buttons."),
        ({"score-first-style": "3"}, "Score both answers for style, or neither."),
        (
            {"score-first-style": "6", "score-second-style": "1"},
            "The score of style must be a whole number from 1 to 5.",
        ),
        ({"score-first-wit": "3", "score-second-wit": "1"}, "wit"),
        ({"tags": "other"}, "other"),
        ({"seconds": "nan"}, "nan"),
        ({"seconds": "soon"}, "seconds &#39;soon&#39; is not a number."),
        ({"request_key": ""}, "request key"),
        ({"request_key": "k" * 500}, "request key"),
        ({"reason": "x" * 30_000}, "reason"),
        ({"reason": "a\0b"}, "cannot be stored"),
    ],
)
def test_a_wrong_form_is_refused_in_one_line_and_stores_nothing(site: Site, sent: dict[str, str], message: str) -> None:
    person = Annotator(site)
    answer = person.vote(**{"choice": "first", **sent})
    assert answer.status_code == 400
    assert message in answer.text
    assert vote_rows(site.store) == []
    assert person.vote("first").status_code == 303, "the same lease still takes a right form"


def test_a_lease_of_another_person_or_none_is_refused(site: Site) -> None:
    one, two = Annotator(site), Annotator(site, "reviewer")
    fields = {**two.fields, "lease": one.fields["lease"], "choice": "first"}
    answers = [two.client.post(f"/label/{CAMPAIGN}/vote", data=fields, headers=PAGE)]
    for lease in ("", "0" * 36, "../../etc/passwd", "' OR 1=1 --"):
        answers.append(two.client.post(f"/label/{CAMPAIGN}/vote", data={**fields, "lease": lease}, headers=PAGE))
    assert [answer.status_code for answer in answers] == [400] * 5
    assert vote_rows(site.store) == []
    for lease in (one.fields["lease"], "", "nothing"):
        found = two.client.get(f"/label/{CAMPAIGN}/differences", params={"lease": lease}, headers=PAGE)
        assert found.status_code == 404


def test_differences_are_shown_in_the_order_of_the_page(site: Site) -> None:
    person = Annotator(site)
    for _ in range(4):
        first, _ = person.answers
        found = person.client.get(
            f"/label/{CAMPAIGN}/differences", params={"lease": person.fields["lease"]}, headers=PAGE
        )
        assert found.status_code == 200
        (deleted,) = re.findall(r"<del><span[^>]*>only in A: </span>(.*?)</del>", found.text)
        (inserted,) = re.findall(r"<ins><span[^>]*>only in B: </span>(.*?)</ins>", found.text)
        pair = ("The **good** ", "A bad ") if "good" in first else ("A bad ", "The **good** ")
        assert (deleted, inserted) == pair
        person.vote("tie")
        person.open()


def test_differences_show_characters_that_change_the_direction(tmp_path: Path) -> None:
    site = label_site(tmp_path, items=1, answers=[("pay \u202e100 now", "pay 100 now")])
    person = Annotator(site)
    query = {"lease": person.fields["lease"]}
    page = person.client.get(f"/label/{CAMPAIGN}/differences", params=query, headers=PAGE).text
    assert "\u202e" not in page
    assert "⟦U+202E⟧100" in page
    site.store.close()


def test_a_script_gets_the_next_item_at_once(site: Site) -> None:
    person = Annotator(site)
    headers = {"Accept": "application/json", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    data = {**person.fields, "choice": "tie"}
    before = person.fields["lease"]
    person.page = person.client.post(f"/label/{CAMPAIGN}/vote", data=data, headers=headers)
    assert person.page.status_code == 200
    assert "Recorded: Tie." in person.page.text
    assert person.fields["lease"] not in ("", before)
    wrong = person.client.post(f"/label/{CAMPAIGN}/vote", data={**person.fields, "choice": "x"}, headers=headers)
    assert (wrong.status_code, wrong.json()) == (400, {"error": "Choose one of the buttons."})


def test_a_vote_that_comes_too_late_is_said_to_be_not_stored(tmp_path: Path) -> None:
    site = label_site(tmp_path, items=1)
    slow = Annotator(site)
    site.clock.move(minutes=31)  # the lease ends, and somebody else gets the item
    fast = Annotator(site, "reviewer")
    fast.vote("first")
    headers = {"Accept": "application/json", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    answer = slow.client.post(f"/label/{CAMPAIGN}/vote", data={**slow.fields, "choice": "first"}, headers=headers)
    assert answer.status_code == 409
    assert "your vote was not stored" in answer.text
    assert slow.vote("first").headers["location"].endswith("?said=full")
    assert [row.who for row in vote_rows(site.store)] == ["reviewer"]
    site.store.close()


def test_progress_and_the_time_left(site: Site) -> None:
    person = Annotator(site)
    for seconds in (10, 30, 600):
        assert "left</span>" not in person.page.text
        person.vote("tie", seconds=str(seconds), seconds_total="700")
        person.open()
    assert "Item 4" in person.page.text
    assert '<progress max="4" value="3"' in person.page.text
    assert "less than a minute left" in person.page.text, "the median of 10, 30 and 600 s, for one item"


def test_the_notice_of_an_address_is_one_of_ours(site: Site) -> None:
    page = Annotator(site).open("?said=<b>Send+money</b>").text
    assert "Send money" not in page
    assert "Send+money" not in page


def test_the_list_of_campaigns_has_links_by_role(site: Site) -> None:
    pages = {name: site.client(name).get("/label", headers=PAGE).text for name in ("annotator", "reviewer", "admin")}
    for name, page in pages.items():
        assert f'href="/label/{CAMPAIGN}"' in page
        assert SCHEMA.criteria in page
        assert ("/conflicts" in page) == (name != "annotator")
        assert ("/admin" in page) == (name == "admin")


def test_a_campaign_that_does_not_exist(site: Site) -> None:
    found = site.client("annotator").get("/label/nothing", headers=PAGE)
    assert found.status_code == 400
    assert "there is no campaign nothing" in found.text


def test_turns_that_are_rarely_read_are_folded() -> None:
    turns = (
        Message("system", "Be short."),
        Message("user", "Weather?"),
        Message("assistant", "", tool_calls=(ToolCall("weather", '{"city": "Bern"}'),), reasoning_content="I ask."),
        Message("tool", '{"degrees": 7}', name="weather"),
        Message("assistant", "7 degrees"),
    )
    blocks = prompt_blocks(turns, '[{"name": "weather"}]')
    assert [(block.title, block.folded) for block in blocks] == [
        ("Tools", True),
        ("System prompt", True),
        ("User", False),
        ("Reasoning of the assistant", True),
        ("Call of the tool weather", True),
        ("Result of the tool weather", True),
        ("Assistant", False),
    ]
    assert "degrees" in blocks[5].html


def test_back_quotes_do_not_end_a_code_block() -> None:
    text = "a\n```\n<b>\n````\n# no heading"
    html = code(text)
    assert "<h1" not in html
    assert html.count("<pre") == 1


def test_half_a_surrogate_pair_of_a_form_in_another_encoding_is_refused(site: Site) -> None:
    client = site.client("annotator")
    body = b'--B\r\nContent-Disposition: form-data; name="lease"\r\n\r\na\\ud800\r\n'
    body += b'--B\r\nContent-Disposition: form-data; name="choice"\r\n\r\nfirst\r\n--B--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=B; charset=unicode_escape"}
    reply = client.post(f"/label/{CAMPAIGN}/vote", content=body, headers={**csrf(site, client), **kind})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("lease has a character that cannot be stored")


def test_an_address_with_nul_is_not_there_on_any_database(store: Store) -> None:
    with pytest.raises(UsageError, match="there is no campaign"):
        store.read(lambda session: find_campaign(session, "a\0"))
    assert store.read(lambda session: _texts(session, "a\0", 1)) is None


def test_answers_that_are_too_long_to_compare_are_said_to_be(tmp_path: Path) -> None:
    site = label_site(tmp_path, items=1, answers=[("a " * 20_001, "b")])
    annotator = Annotator(site)
    address = f"/label/{CAMPAIGN}/differences?lease={annotator.fields['lease']}"
    reply = annotator.client.get(address)
    assert reply.status_code == 400
    assert reply.json()["error"] == "The answers are too long to compare: more than 20,000 words."
    site.store.close()
