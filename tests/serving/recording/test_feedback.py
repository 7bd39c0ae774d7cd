"""Feedback needs the completion's token, is stored once, and a changed mind supersedes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from palate.serving.recording import Feedback, FeedbackError, Recorder
from palate.serving.recording.feedback import MOST_CHANGES
from palate.serving.recording.recorder import TOKEN_LIFETIME
from palate.store import Store
from palate.store.serving_tables import FeedbackRow
from recorded import START, Recording


def rows(store: Store) -> list[tuple[Any, ...]]:
    wanted = select(FeedbackRow.thumbs, FeedbackRow.comment, FeedbackRow.supersedes).order_by(FeedbackRow.number)
    return [tuple(row) for row in store.read(lambda session: session.execute(wanted).all())]


def test_the_same_form_is_one_row_and_a_changed_mind_supersedes(store: Store) -> None:
    recording = Recording(store)
    identifier = recording.complete()
    first = recording.rate(identifier, thumbs="up")
    recording.clock.now += timedelta(hours=1)
    assert recording.rate(identifier, thumbs="up").number == first.number
    second = recording.rate(identifier, comment="thanks")
    third = recording.rate(identifier, thumbs="down")
    fourth = recording.rate(identifier, comment=None)
    assert rows(store) == [
        ("up", None, None),
        ("up", "thanks", first.number),
        ("down", "thanks", second.number),
        ("down", None, third.number),
    ]
    assert recording.rate(identifier, thumbs="down").number == fourth.number


def test_a_form_that_is_sent_again_late_changes_nothing(sqlite_store: Store) -> None:
    recording = Recording(sqlite_store)
    identifier = recording.complete()
    first = recording.rate(identifier, thumbs="up", idempotency_key="k1")
    recording.rate(identifier, thumbs="down", idempotency_key="k2")
    assert recording.rate(identifier, thumbs="up", idempotency_key="k1").number == first.number
    assert [row[0] for row in rows(sqlite_store)] == ["up", "down"]


def test_forms_at_the_same_time_are_one_row(store: Store) -> None:
    recording = Recording(store)
    identifier = recording.complete()
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: recording.rate(identifier, thumbs="up").number, range(32)))
    assert len(set(found)) == 1
    assert rows(store) == [("up", None, None)]


def test_answers_and_choices_have_feedback_of_their_own(sqlite_store: Store) -> None:
    recording = Recording(sqlite_store)
    identifier = recording.complete("one", "two")
    recording.rate(identifier, thumbs="up", answer=0)
    recording.rate(identifier, thumbs="down", answer=1)
    recording.rate(identifier, chosen=0)
    recording.rate(identifier, chosen=1, comment="after all")
    assert [row[2] for row in rows(sqlite_store)] == [None, None, None, 3]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 400),
        ({"score": 1.01}, 400),
        ({"score": float("nan")}, 400),
        ({"comment": "x" * 10_001}, 400),
        ({"thumbs": "up", "answer": 1}, 400),
        ({"thumbs": "up", "answer": -1}, 400),
        ({"chosen": 0}, 400),  # there is one answer
        ({"chosen": 0, "thumbs": "up"}, 400),
        ({"thumbs": "up", "id": "chatcmpl-other"}, 403),
    ],
)
def test_a_form_that_does_not_fit_is_refused(sqlite_store: Store, form: dict[str, Any], status: int) -> None:
    recording = Recording(sqlite_store)
    with pytest.raises(FeedbackError) as found:
        recording.rate(recording.complete(), **form)
    assert found.value.status == status
    assert rows(sqlite_store) == []


def test_tokens_of_others_changed_ones_and_old_ones_are_refused(sqlite_store: Store) -> None:
    recording = Recording(sqlite_store)
    one, other = recording.complete(), recording.complete()
    token = recording.recorder.feedback_token(one)
    identifier, end, signature = token.rsplit(".", 2)
    foreign = Recorder(sqlite_store, secret=b"another", clock=recording.clock).feedback_token(one)
    flipped = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    bad = ["", ".", "..", "x", "é", foreign, f"{other}.{end}.{signature}", f"{identifier}.{int(end) + 1}.{signature}"]
    for wrong in (*bad, f"{identifier}.{end}.{flipped}", f"{identifier}.{end}"):
        with pytest.raises(FeedbackError, match="token") as found:
            recording.recorder.feedback(wrong, Feedback(thumbs="up"))
        assert found.value.status == 403
    with pytest.raises(FeedbackError, match="token"):  # a right token, for another completion
        recording.recorder.feedback(token, Feedback(thumbs="up", id=other))
    recording.clock.now = START - timedelta(days=400)  # a clock that jumps back must not refuse
    recording.recorder.feedback(token, Feedback(thumbs="up", id=one))
    recording.clock.now = START + TOKEN_LIFETIME
    with pytest.raises(FeedbackError, match="expired"):
        recording.recorder.feedback(token, Feedback(thumbs="down"))
    assert [row[0] for row in rows(sqlite_store)] == ["up"]


def test_feedback_on_a_deleted_completion_and_endless_changes_are_refused(sqlite_store: Store) -> None:
    recording = Recording(sqlite_store)
    with pytest.raises(FeedbackError) as found:
        recording.rate("chatcmpl-gone", thumbs="up")
    assert found.value.status == 404
    identifier = recording.complete()
    for number in range(MOST_CHANGES):
        recording.rate(identifier, score=number / MOST_CHANGES)
    with pytest.raises(FeedbackError) as found:
        recording.rate(identifier, score=1.0)
    assert found.value.status == 429


def test_feedback_comes_while_the_answer_is_streamed(sqlite_store: Store) -> None:
    recording = Recording(sqlite_store)
    identifier = recording.reserve(decoding={"n": 2})
    assert recording.rate(identifier, thumbs="up", answer=1).answer == 1
    with pytest.raises(FeedbackError):
        recording.rate(identifier, thumbs="up", answer=2)


@pytest.mark.parametrize(
    ("policy", "comment", "edit"),
    [
        ("metadata", None, None),
        ("redacted", "mail [email]", "call [phone]"),
        ("full", "mail a@b.org", "call +49 170 1234567"),
    ],
)
def test_comments_and_edits_follow_the_policy(
    sqlite_store: Store, policy: str, comment: str | None, edit: str | None
) -> None:
    recording = Recording(sqlite_store)
    row = recording.rate(
        recording.complete(policy=policy), comment="mail a@b.org", edit="call +49 170 1234567", score=0.5
    )
    assert (row.comment, row.edit, row.score) == (comment, edit, 0.5)
