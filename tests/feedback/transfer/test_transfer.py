"""Imports: what is new, what is there already, and what is refused by name."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from palate.errors import DataError, UsageError
from palate.feedback.campaigns.campaign import CampaignSchema, create_campaign, find_campaign
from palate.feedback.campaigns.tasks import make_tasks
from palate.feedback.candidates import AnswerOrigin, Candidates, read_candidates, write_candidates
from palate.feedback.queue.review import progress
from palate.feedback.transfer import (
    Imported,
    candidates_in,
    import_candidates,
    import_files,
    import_votes,
    to_row,
    to_vote,
    votes_in,
)
from palate.feedback.votes import Vote
from palate.models.generation.decoding import Decoding
from palate.records import Answer, Message, Messages, Record, ToolCall
from palate.store import Store

ROW = Candidates(
    "p.jsonl:1", (Message("user", "q"),), (Answer("a", "stop", 3), Answer("b", "length", 4), Answer("c", "stop"))
)
VOTE = Vote("p.jsonl:1", 0, 1, "left", "ann", "2026-01-31T12:00:00Z", "left_first", kind="person", id="v1")


@pytest.fixture
def campaign(store: Store) -> Store:
    """A store with the empty campaigns a and b."""
    for name in ("a", "b"):
        store.write(lambda session, name=name: create_campaign(session, name, CampaignSchema(), "test"))
    return store


def add(store: Store, rows: Sequence[Candidates], campaign: str = "a") -> Imported:
    return store.write(lambda session: import_candidates(session, campaign, rows))


def vote(store: Store, votes: Sequence[Vote], campaign: str = "a") -> Imported:
    return store.write(lambda session: import_votes(session, campaign, votes))


def candidates(store: Store, campaign: str = "a") -> list[Candidates]:
    return store.read(lambda session: candidates_in(session, campaign))


def votes(store: Store, campaign: str = "a") -> list[Vote]:
    return store.read(lambda session: votes_in(session, campaign))


def test_rows_are_added_once(campaign: Store) -> None:
    other = replace(ROW, id="p.jsonl:2")
    assert add(campaign, [ROW]) == Imported(1, 0)
    assert add(campaign, [other, ROW, ROW]) == Imported(1, 2)
    assert candidates(campaign) == [ROW, other]
    assert add(campaign, [ROW], "b") == Imported(1, 0), "another campaign has rows of its own"


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": (Message("user", "another q"),)},
        {"completions": ROW.completions[:2]},
        {"completions": (*ROW.completions[:2], Answer("c", "length"))},
        {"columns": {"answer": 4}},
        {"tools": "[]"},
        {"origins": (AnswerOrigin("m"),) * 3},
        {"origins": (AnswerOrigin(seed=1),) * 3},
        {"origins": (AnswerOrigin("x"), AnswerOrigin("y"), AnswerOrigin("z"))},
    ],
)
def test_an_id_with_other_content_is_refused_and_nothing_is_added(campaign: Store, changed: dict[str, Any]) -> None:
    add(campaign, [ROW])
    with pytest.raises(DataError, match=r"candidates p\.jsonl:1: the campaign a has this id with other content"):
        add(campaign, [replace(ROW, id="new"), replace(ROW, **changed)])
    assert candidates(campaign) == [ROW]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"completions": (Answer("a\0", "stop"),)}, "candidates p.jsonl:1: completion 0 holds the character NUL"),
        ({"completions": (Answer("a\ud800", "stop"),)}, "completion 0 holds half a surrogate pair at character 2"),
        ({"prompt": (Message("user", "\ud800"),)}, "candidates p.jsonl:1: prompt[0] holds half a surrogate pair"),
        ({"completions": (Answer("a", "stop", 2**31),)}, "tokens 2147483648 is too large to be stored"),
        ({"origins": (AnswerOrigin(seed=2**63),) * 3}, "seed 9223372036854775808 is too large to be stored"),
        ({"id": "x" * 501}, "its id has 501 characters; at most 500 can be stored"),
        ({"completions": ()}, "has no completions"),
    ],
)
def test_what_a_database_cannot_keep_is_refused_by_name(campaign: Store, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        add(campaign, [replace(ROW, **changed)])
    assert candidates(campaign) == []


def test_a_row_made_by_a_program_is_stored_as_a_file_would_have_it(campaign: Store) -> None:
    call = ToolCall("f", '{"a":1}')
    made = replace(
        ROW,
        prompt=(Message("user", "q"), Message("assistant", "", (call,))),
        columns={"scores": (1, float("nan")), "folder": Path("x")},
        origins=(AnswerOrigin("m", decoding={"stop": ("a",)}),) * 3,
    )
    assert add(campaign, [made]) == Imported(1, 0)
    assert add(campaign, [made]) == Imported(0, 1)
    (kept,) = candidates(campaign)
    assert kept.columns == {"scores": [1, None], "folder": "x"}
    assert kept.origins == (AnswerOrigin("m", decoding={"stop": ["a"]}),) * 3
    assert add(campaign, [kept]) == Imported(0, 1)


def test_an_unknown_campaign_is_named(store: Store) -> None:
    for work in (candidates, votes):
        with pytest.raises(UsageError, match="no campaign a"):
            work(store)
    with pytest.raises(UsageError, match="no campaign a"):
        add(store, [ROW])


def test_votes_are_added_once_and_keep_their_order(campaign: Store) -> None:
    add(campaign, [ROW])
    late = replace(VOTE, id="v0", when="2026-02-01T00:00:00Z")
    assert vote(campaign, [late, VOTE]) == Imported(2, 0)
    assert vote(campaign, [VOTE, replace(VOTE, id="v2", supersedes="v1")]) == Imported(1, 1)
    assert [one.id for one in votes(campaign)] == ["v0", "v1", "v2"]


def test_equal_votes_without_an_id_are_several_and_stay_so(campaign: Store) -> None:
    add(campaign, [ROW])
    add(campaign, [ROW], "b")
    unnamed = replace(VOTE, id="")
    assert vote(campaign, [unnamed, unnamed, VOTE]) == Imported(3, 0)
    assert votes(campaign) == [unnamed, unnamed, VOTE]
    assert vote(campaign, [unnamed, unnamed, unnamed]) == Imported(1, 2)
    assert vote(campaign, [unnamed], "b") == Imported(1, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"item": "x"}, "vote v2 of ann on x: the campaign a has no such candidates; import the file that was judged"),
        ({"right": 3}, "vote v2 of ann on p.jsonl:1: is on answer 3, but there are 3, from 0"),
        ({"left": 1, "right": 1}, "left 1 and right 1; left is the lower index, from 0"),
        ({"left": -1}, "left -1 and right 1"),
        ({"id": "v1", "outcome": "right"}, "vote v1: the campaign a has this id with other content"),
        ({"id": "row:1"}, "ids that begin with row: are the store's own"),
        ({"id": "x" * 101}, "its id has 101 characters; at most 100 can be stored"),
        ({"supersedes": "v9"}, "supersedes v9, which is neither in the store nor before it in the file"),
        ({"supersedes": "v2"}, "supersedes v2, which is neither in the store nor before it in the file"),
        ({"supersedes": "v1", "right": 2}, "supersedes v1, which is a vote on other answers"),
        ({"supersedes": "v0"}, "supersedes v0, which another vote supersedes already"),
        ({"probability_left": float("nan")}, "has the number nan, which is not finite"),
        ({"dimensions": {"d": (1.0, float("inf"))}}, "has the number inf, which is not finite"),
        ({"reason": "a\0"}, "reason holds the character NUL"),
        ({"when": "yesterday"}, "when 'yesterday' is not a time in ISO 8601"),
    ],
)
def test_a_vote_that_does_not_fit_is_refused_by_name(campaign: Store, changed: dict[str, Any], said: str) -> None:
    add(campaign, [ROW])
    first = [replace(VOTE, id="v0"), replace(VOTE, supersedes="v0")]
    vote(campaign, first)
    with pytest.raises(DataError, match=re.escape(said)):
        vote(campaign, [replace(VOTE, id="new"), replace(VOTE, **{"id": "v2", **changed})])
    assert votes(campaign) == first


def test_a_vote_belongs_to_one_campaign(campaign: Store) -> None:
    add(campaign, [ROW])
    add(campaign, [ROW], "b")
    vote(campaign, [VOTE])
    with pytest.raises(DataError, match="vote v1: another campaign has it"):
        vote(campaign, [VOTE], "b")


def test_a_row_made_from_a_vote_is_that_vote() -> None:
    row = to_row(VOTE, item_id=1, campaign_id=2, user_id=3, lease_id="l", request_key="k")
    assert (row.item_id, row.campaign_id, row.user_id, row.lease_id, row.request_key) == (1, 2, 3, "l", "k")
    assert to_vote(row, "p.jsonl:1") == VOTE
    new = to_row(replace(VOTE, id=""), item_id=1, campaign_id=2)
    assert len(new.id) == 36, "a vote of the page gets an id of its own"


def test_batches_are_whole(campaign: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.feedback.transfer import candidates as module
    from palate.feedback.transfer import checks

    monkeypatch.setattr(checks, "BATCH", 7)
    monkeypatch.setattr(module, "BATCH", 7)
    rows = [replace(ROW, id=f"r{number}", columns={"n": number}) for number in range(50)]
    cast = [replace(VOTE, item=row.id, id=f"v{number}") for number, row in enumerate(rows)]
    cast += [replace(one, id=f"{one.id}b", supersedes=one.id) for one in reversed(cast)]
    assert add(campaign, rows) == Imported(50, 0)
    assert vote(campaign, cast) == Imported(100, 0)
    assert candidates(campaign) == rows
    assert votes(campaign) == cast


def test_two_imports_of_one_file_at_the_same_time(campaign: Store) -> None:
    rows = [replace(ROW, id=f"r{number}") for number in range(600)]
    done: list[Imported] = []
    threads = [threading.Thread(target=lambda: done.append(add(campaign, rows))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=lambda one: one.new) == [Imported(0, 600), Imported(600, 0)]
    assert candidates(campaign) == rows


class Echo:
    """Answers every prompt with its text."""

    name, identity = "echo", "hash"

    def answers(self, prompts: Sequence[Messages], *_: Any, **__: Any) -> list[Answer]:
        return [Answer(prompt[-1].content, "stop", 2) for prompt in prompts]


def test_a_file_of_generate_comes_back_byte_for_byte(store: Store, tmp_path: Path) -> None:
    prompts = [
        Record(id="p:1", prompt=(Message("system", "s"), Message("user", "é"))),
        Record(id="p:2", prompt=(Message("user", "q"),), tools='[{"name": "f"}]', extra={"answer": 4, "tools": "own"}),
    ]
    path = tmp_path / "c.jsonl"
    write_candidates(prompts, Echo(), 2, Decoding(8, 1.0, seed=3), path=path)
    import_files(store, path)
    kept = candidates(store, "default")
    assert [json.dumps(row.to_json()) for row in kept] == path.read_text().splitlines()
    assert kept == read_candidates(path)


def test_files_are_imported_together_or_not_at_all(store: Store, tmp_path: Path) -> None:
    rows, cast = tmp_path / "c.jsonl", tmp_path / "v.jsonl"
    rows.write_text(json.dumps(ROW.to_json()) + "\n")
    cast.write_text(json.dumps(replace(VOTE, item="x").to_json()) + "\n")
    with pytest.raises(DataError, match="on x: the campaign default has no such candidates"):
        import_files(store, rows, cast)
    with pytest.raises(UsageError, match="no campaign default"):
        candidates(store, "default")
    cast.write_text(json.dumps(VOTE.to_json()) + "\n")
    done = import_files(store, rows, cast)
    assert (done.campaign, done.created, done.candidates, done.votes) == (
        "default",
        True,
        Imported(1, 0),
        Imported(1, 0),
    )
    again = import_files(store, None, cast)
    assert (again.created, again.candidates, again.votes) == (False, None, Imported(0, 1))
    find = partial(find_campaign, name="default")
    store.write(lambda session: make_tasks(session, find(session)))
    assert store.read(lambda session: progress(session, "default")).votes == 1
    cast.write_text(json.dumps(replace(VOTE, id="v2", who="bob", right=2).to_json()) + "\n")
    import_files(store, None, cast)  # tasks that are there already count it too
    found = store.read(lambda session: progress(session, "default"))
    assert (found.votes, found.wanted) == (2, 3)
    assert store.read(lambda session: find(session).slots) == 1
    import_files(store, rows, campaign="second")
    with pytest.raises(UsageError, match="the store has the campaigns default, second; name one with --campaign"):
        import_files(store, rows)
