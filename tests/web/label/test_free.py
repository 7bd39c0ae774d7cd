"""The free prompt: streamed, blind, committed before the vote; what failed is never a pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from palate.artifacts import read_jsonl
from palate.errors import EngineError
from palate.feedback.page.chat import Chat
from palate.feedback.page.free_prompts import CAMPAIGN
from palate.feedback.page.save import PreferenceFile
from palate.models.generation.decoding import Decoding
from palate.records import Message, Messages
from palate.store.tables import CampaignItem, Lease, Response, Task, VoteRow
from palate.web.app import create_app
from payloads import PAYLOADS
from sites import Site, Structure, csrf, make_site, running
from store_servers import can_be_written
from streams import Endless, Fake

HOW = Decoding(max_new_tokens=9, temperature=0.7, top_p=0.9, seed=3)
PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}


def about(word: str) -> Callable[[Messages], str]:
    """Writes an answer that names the prompt's last turn."""
    return lambda prompt: f"{word} answer to {prompt[-1].content}"


@dataclass
class Asking:
    """A site with two models, and the file that decided pairs are saved to."""

    site: Site
    chat: Chat
    file: PreferenceFile

    def client(self, name: str | None = None) -> TestClient:
        found = self.site.client(name)
        assert found.get("/ask", headers=PAGE).status_code == 200  # gives the cookie of the CSRF token
        return found

    def ask(self, client: TestClient, prompt: str, after: str = "") -> list[tuple[str, dict[str, str]]]:
        sent = {"prompt": prompt, "after": after}
        reply = client.post("/ask/answers", data=sent, headers=csrf(self.site, client))
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["x-content-type-options"] == "nosniff"
        return events(reply.text)

    def vote(self, client: TestClient, choice: str, lease: str | None = None, key: str = "") -> Any:
        lease = lease or self.rows(Lease)[-1].id
        fields = {"lease": lease, "choice": choice, "request_key": key or lease, "seconds": "2", "seconds_total": "3"}
        reply = client.post("/ask/vote", data=fields, headers=PAGE | csrf(self.site, client))
        assert reply.status_code == 303, reply.text
        return client.get(reply.headers["location"], headers=PAGE).text

    def undo(self, client: TestClient) -> str:
        fields = {"last_vote": self.rows(VoteRow)[-1].id}
        reply = client.post("/ask/undo", data=fields, headers=PAGE | csrf(self.site, client))
        assert reply.status_code == 303
        return client.get(reply.headers["location"], headers=PAGE).text

    def rows(self, table: Any) -> list[Any]:
        order = getattr(table, "number", table.id) if table is not Response else table.id
        return self.site.store.read(lambda session: list(session.scalars(select(table).order_by(order))))

    def saved(self) -> list[dict[str, Any]]:
        return read_jsonl(self.file.path)


def events(text: str) -> list[tuple[str, dict[str, str]]]:
    found = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def texts(found: list[tuple[str, dict[str, str]]]) -> dict[str, str]:
    """The streamed text of each slot."""
    sides = {"first": "", "second": ""}
    for name, data in found:
        if name == "text":
            sides[data["slot"]] += data["text"]
    return sides


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Asking]]:
    open_sites: list[Asking] = []

    def make(first: Fake | None = None, second: Fake | None = None, *, local: bool = True) -> Asking:
        plain = make_site(tmp_path, local=local)
        first = first or Fake(write=about("one"), name="model-one", identity="1f")
        second = second or Fake(write=about("other"), name="model-two")
        chat, file = Chat(first, second, HOW), PreferenceFile(tmp_path / "preferences.jsonl")
        app = create_app(plain.store, plain.settings, chat=chat, save=file)
        asking = Asking(Site(app, plain.store, plain.settings, plain.clock, plain.people), chat, file)
        open_sites.append(asking)
        return asking

    yield make
    for asking in open_sites:
        asking.chat.close()
        asking.file.close()
        asking.site.store.close()


def test_both_answers_are_streamed_stored_and_then_shown_blind(made: Callable[..., Asking]) -> None:
    asking = made()
    client = asking.client()
    found = asking.ask(client, "why?")
    assert found[-1] == ("ready", {"address": "/ask"})
    assert sorted(data["slot"] for name, data in found if name == "ended") == ["first", "second"]
    assert sum(name == "text" for name, _ in found) == 6, "each answer in three pieces"
    assert "model-" not in json.dumps(found)
    # Committed before anything can be voted on.
    (item,) = asking.rows(CampaignItem)
    assert item.prompt == [{"role": "user", "content": "why?"}]
    assert item.columns == {}
    one, other = asking.rows(Response)
    assert (one.text, one.model, one.identity) == ("one answer to why?", "model-one", "1f")
    assert (other.text, other.model, other.identity) == ("other answer to why?", "model-two", None)
    assert one.decoding == other.decoding == {"max_new_tokens": 9, "temperature": 0.7, "top_p": 0.9}
    assert [one.seed, other.seed] == [model.seeds[0] for model in asking.chat.models]  # type: ignore[attr-defined]
    (lease,) = asking.rows(Lease)
    streamed, order = texts(found), [one.text, other.text] if lease.shown == "left_first" else [other.text, one.text]
    assert [streamed["first"], streamed["second"]] == order
    assert asking.rows(VoteRow) == []
    page = client.get("/ask", headers=PAGE).text
    assert page.index(order[0]) < page.index(order[1])
    assert "model-" not in page
    assert asking.saved() == []


def test_no_transaction_is_open_while_the_models_write(made: Callable[..., Asking], tmp_path: Path) -> None:
    writable = []

    def write(prompt: Messages) -> str:
        writable.append(can_be_written(tmp_path / "palate.db"))
        return f"answer {len(writable)}"

    asking = made(Fake(write=write), Fake("other answer"))
    assert asking.ask(asking.client(), "why?")[-1][0] == "ready"
    assert writable == [True]


def test_sides_are_drawn_anew_each_time(made: Callable[..., Asking]) -> None:
    asking = made()
    client = asking.client()
    for number in range(24):
        asking.ask(client, f"question {number}")
        asking.vote(client, "tie")
    assert {lease.shown for lease in asking.rows(Lease)} == {"left_first", "right_first"}


def test_a_vote_is_stored_saved_and_then_told_who_wrote_what(made: Callable[..., Asking]) -> None:
    asking = made()
    client = asking.client()
    asking.ask(client, "why?")
    (lease,) = asking.rows(Lease)
    page = asking.vote(client, "first_much")
    (vote,) = asking.rows(VoteRow)
    assert (vote.outcome, vote.strength) == ("left" if lease.shown == "left_first" else "right", 2)
    assert (vote.seconds, vote.seconds_total, vote.campaign_id) == (2.0, 3.0, lease.campaign_id)
    order = ["one answer to why?", "other answer to why?"]
    chosen, rejected = order if vote.outcome == "left" else order[::-1]
    assert asking.saved() == [
        {"conversations": [{"from": "human", "value": "why?"}], "chosen": chosen, "rejected": rejected}
    ]
    assert "answer A is better" in page
    assert "model-one" in page
    assert "model-two" in page


def test_the_conversation_goes_on_with_the_chosen_answer(made: Callable[..., Asking]) -> None:
    asking = made()
    client = asking.client()
    asking.ask(client, "why?")
    page = asking.vote(client, "second")
    (vote,) = asking.rows(VoteRow)
    assert f'name="after" value="{vote.id}"' in page
    asking.ask(client, "and then?", after=vote.id)
    chosen = f"{'one' if vote.outcome == 'left' else 'other'} answer to why?"
    conversation = (Message("user", "why?"), Message("assistant", chosen), Message("user", "and then?"))
    assert [model.prompts[-1] for model in asking.chat.models] == [conversation] * 2  # type: ignore[attr-defined]
    assert asking.rows(CampaignItem)[1].columns == {"after": vote.id}
    asking.vote(client, "first")
    assert [turn["from"] for turn in asking.saved()[1]["conversations"]] == ["human", "gpt", "human"]


@pytest.mark.parametrize("choice", ["tie", "both_bad", "skip", "flag"])
def test_what_decides_nothing_is_no_pair(made: Callable[..., Asking], choice: str) -> None:
    asking = made()
    client = asking.client()
    asking.ask(client, "why?")
    page = asking.vote(client, choice)
    assert asking.rows(VoteRow)[0].outcome == choice
    assert asking.saved() == []
    assert ('name="after"' in page) == (choice == "tie")


def test_undo_takes_the_pair_out_of_the_file(made: Callable[..., Asking]) -> None:
    asking = made()
    client = asking.client()
    asking.ask(client, "first?")
    asking.vote(client, "first")
    asking.ask(client, "second?")
    asking.vote(client, "first")
    kept, undone = asking.saved()
    page = asking.undo(client)
    assert asking.saved() == [kept]
    assert "Which answer is better?" in page, "the answers are open again"
    asking.vote(client, "second", key="again")
    right = {**undone, "chosen": undone["rejected"], "rejected": undone["chosen"]}
    assert asking.saved() == [kept, right]
    # The same form once more, as of a double click.
    asking.vote(client, "second", key="again")
    assert asking.saved() == [kept, right]
    assert len(asking.rows(VoteRow)) == 4, "two votes, the undo, and the new vote"


@pytest.mark.parametrize(
    "broken",
    [
        Fake("half an answer", fails=EngineError("http://h/v1: model-two broke off"), name="model-two"),
        Fake("half", reason="content_filter", name="model-two"),
        Fake(name="model-two"),
    ],
)
def test_a_failed_answer_stores_nothing_and_can_be_asked_again(made: Callable[..., Asking], broken: Fake) -> None:
    asking = made(second=broken)
    client = asking.client()
    found = asking.ask(client, "why?")
    assert found[-1][0] == "again"
    assert [name for name, _ in found].count("failed") == 1
    assert "model-two" not in json.dumps(found)
    for table in (CampaignItem, Response, Task, Lease, VoteRow):
        assert asking.rows(table) == []
    broken.write, broken.fails, broken.reason = about("other"), None, "stop"
    assert asking.ask(client, "why?")[-1][0] == "ready"
    assert len(set(broken.seeds)) == 2, "asked again, sampled anew"


def test_equal_answers_are_stored_and_not_compared(made: Callable[..., Asking]) -> None:
    asking = made(Fake("yes"), Fake("yes", name="b"))
    client = asking.client()
    name, data = asking.ask(client, "why?")[-1]
    assert name == "again"
    assert "the same" in data["message"]
    assert (len(asking.rows(Response)), asking.rows(Task), asking.rows(Lease)) == (2, [], [])
    assert "Ask both models" in client.get("/ask", headers=PAGE).text


def test_one_model_twice_is_marked(made: Callable[..., Asking]) -> None:
    texts_ = iter(("one", "other"))
    model = Fake(write=lambda _: next(texts_), identity="1f")
    asking = made(model, model)
    client = asking.client()
    assert asking.ask(client, "why?")[-1][0] == "ready"
    assert asking.rows(CampaignItem)[0].columns == {"same_model": True}
    asking.vote(client, "first")
    assert len(asking.saved()) == 1, "its pairs train"


def test_an_answer_that_names_its_maker_is_marked(made: Callable[..., Asking]) -> None:
    asking = made(first=Fake("I am ChatGPT, made by OpenAI."))
    asking.ask(asking.client(), "who are you?")
    assert asking.rows(Task)[0].identity_leak


def test_people_have_their_own_prompts_only(made: Callable[..., Asking]) -> None:
    asking = made(local=False)
    mine, theirs = asking.client("annotator"), asking.client("reviewer")
    asking.ask(mine, "my question")
    assert "my question" not in theirs.get("/ask", headers=PAGE).text
    asking.vote(mine, "first")
    (vote,) = asking.rows(VoteRow)
    sent = {"prompt": "go on", "after": vote.id}
    reply = theirs.post("/ask/answers", data=sent, headers=csrf(asking.site, theirs))
    assert reply.status_code == 400
    assert "not your last vote" in reply.json()["error"]
    lease = asking.rows(Lease)[0].id
    fields = {"lease": lease, "choice": "second", "request_key": "x"}
    assert theirs.post("/ask/vote", data=fields, headers=PAGE | csrf(asking.site, theirs)).status_code == 400
    assert len(asking.rows(VoteRow)) == 1


def test_a_lease_that_has_expired_gives_the_form_back_and_its_vote_still_counts(made: Callable[..., Asking]) -> None:
    asking = made()
    client = asking.client()
    asking.ask(client, "why?")
    asking.site.clock.move(hours=25)
    assert "Ask both models" in client.get("/ask", headers=PAGE).text
    asking.vote(client, "first")
    assert len(asking.saved()) == 1


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (" \n ", "Write a prompt"),
        ("x" * 20_001, "20,001 characters; at most 20,000"),
        ("a\0b", "prompt has a character that cannot be stored"),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_refused(made: Callable[..., Asking], prompt: str, said: str) -> None:
    asking = made()
    client = asking.client()
    reply = client.post("/ask/answers", data={"prompt": prompt}, headers=csrf(asking.site, client))
    assert reply.status_code == 400
    assert said in reply.json()["error"]
    assert asking.chat.models[0].prompts == []  # type: ignore[attr-defined]


def test_a_prompt_beside_too_many_others_is_told_to_wait(made: Callable[..., Asking]) -> None:
    asking = made()
    while asking.chat._free.acquire(blocking=False):
        pass
    found = asking.ask(asking.client(), "why?")
    assert found == [("again", {"message": "Too many prompts are being answered; try again in a moment."})]


def test_without_models_there_is_no_free_prompt(tmp_path: Path) -> None:
    site = make_site(tmp_path, local=True)
    client = site.client()
    assert client.get("/ask", headers=PAGE).status_code == 404
    assert "Ask both models" not in client.get("/", headers=PAGE).text
    site.store.close()


def test_the_start_page_leads_to_it(made: Callable[..., Asking]) -> None:
    client = made().site.client()
    assert client.get("/", headers=PAGE).headers["location"] == "/ask"


def test_no_payload_in_prompt_or_answer_changes_the_page(made: Callable[..., Asking]) -> None:
    text = iter(())

    def write(_: Messages) -> str:
        return next(text)  # type: ignore[call-overload, no-any-return]

    asking = made(Fake(write=write), Fake(write=write, name="b"))
    client = asking.client()
    for payload in (entry.replace("\0", "\ufffd").strip() for entry in PAYLOADS):
        text = iter((f"x {payload}", f"y {payload}"))
        assert asking.ask(client, payload or "x")[-1][0] == "ready"
        for page in (client.get("/ask", headers=PAGE).text, asking.vote(client, "first")):
            tags = Structure(page)
            assert not any(name.startswith(("on", "hx-on", "style")) for _, name, _ in tags.attributes), payload
            assert all("src" in names for tag, names in tags.tags if tag == "script"), payload
            assert not any(tag in ("img", "iframe", "object", "svg", "base") for tag, _ in tags.tags), payload


def test_a_client_that_goes_ends_both_answers(made: Callable[..., Asking]) -> None:
    first, second = Endless(), Endless(name="b")
    asking = made(first, second)
    with running(asking.site.app) as address, httpx.Client(base_url=address, timeout=60) as client:
        page = client.get("/ask", headers=PAGE)
        token = Structure(page.text)
        (meta,) = [index for index, (tag, name, value) in enumerate(token.attributes) if value == "csrf-token"]
        headers = {"X-CSRF-Token": token.attributes[meta + 1][2]}
        with client.stream("POST", "/ask/answers", data={"prompt": "why?"}, headers=headers) as reply:
            assert reply.status_code == 200
            assert next(reply.iter_text())
            assert not first.left.is_set()
        assert first.left.wait(60), "the model stops when nobody reads"
        assert second.left.wait(60)
    assert asking.rows(CampaignItem) == []


def test_the_campaign_is_an_ordinary_one(made: Callable[..., Asking]) -> None:
    """Its counts and places are those that the queue keeps, so that it can be labelled and exported like others."""
    from palate.feedback.queue.people import people
    from palate.feedback.queue.review import progress
    from palate.feedback.transfer import candidates_in, votes_in

    asking = made()
    client = asking.client()
    for number in range(3):
        asking.ask(client, f"question {number}")
        asking.vote(client, "first")
    found = asking.site.store.read(
        lambda session: (
            progress(session, CAMPAIGN),
            people(session, CAMPAIGN),
            candidates_in(session, CAMPAIGN),
            votes_in(session, CAMPAIGN),
        )
    )
    assert (found[0].tasks, found[0].votes, found[0].finished) == (3, 3, 3)
    assert [person.votes for person in found[1]] == [3]
    assert [row.origin(0).model for row in found[2]] == ["model-one"] * 3
    assert [row.origin(1).model for row in found[2]] == ["model-two"] * 3
    assert [vote.item for vote in found[3]] == [row.id for row in found[2]]
