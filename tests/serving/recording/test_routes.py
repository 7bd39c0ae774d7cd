"""`POST /v1/feedback` over HTTP: what is accepted, what is refused, and that a reply comes after the commit."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from palate.serving.recording.routes import TOKEN_HEADER, feedback_router
from palate.store import Store, engine, open_store, transactions
from recorded import Recording


def client(recording: Recording) -> TestClient:
    app = FastAPI()
    app.include_router(feedback_router(recording.recorder))
    return TestClient(app)


def test_feedback_is_stored_and_shown_as_it_was_stored(store: Store) -> None:
    recording = Recording(store)
    identifier = recording.complete(policy="redacted")
    token = recording.recorder.feedback_token(identifier)
    with client(recording) as http:
        body = {"token": token, "id": identifier, "thumbs": "up", "comment": "from a@b.org"}
        first = http.post("/v1/feedback", json=body)
        again = http.post("/v1/feedback", json=body)
        taken_back = http.post("/v1/feedback", json={"thumbs": None}, headers={TOKEN_HEADER: token})
    assert first.status_code == again.status_code == taken_back.status_code == 200
    assert first.json() == again.json() == {
        "object": "feedback", "id": 1, "completion": identifier, "answer": 0, "thumbs": "up", "score": None,
        "comment": "from [email]", "edit": None, "chosen": None,
    }  # fmt: skip
    assert (taken_back.json()["thumbs"], taken_back.json()["comment"]) == (None, "from [email]")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"thumbs": "up"}, 403),
        ({"token": "x.1.y", "thumbs": "up"}, 403),
        ({"thumbs": "maybe"}, 422),
        ({"thumbs": "up", "model": "other"}, 422),
        ({"score": "0.5"}, 422),
        ({"answer": None, "thumbs": "up"}, 422),
        ([], 422),
    ],
)
def test_bad_bodies(sqlite_store: Store, body: Any, status: int) -> None:
    with client(Recording(sqlite_store)) as http:
        assert http.post("/v1/feedback", json=body).status_code == status


def test_a_locked_database_is_503_and_the_same_form_works_later(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording(sqlite_store)
    token = recording.recorder.feedback_token(recording.complete())
    monkeypatch.setattr(engine, "_BUSY_SECONDS", 0.05)
    monkeypatch.setattr(transactions, "_RETRY_SECONDS", 0.2)
    impatient = open_store(sqlite_store.url)
    other = sqlite3.connect(sqlite_store.url, isolation_level=None)
    with client(Recording(impatient)) as http:
        other.execute("BEGIN IMMEDIATE")
        refused = http.post("/v1/feedback", json={"token": token, "thumbs": "up"})
        other.execute("ROLLBACK")
        accepted = http.post("/v1/feedback", json={"token": token, "thumbs": "up"})
    other.close()
    impatient.close()
    assert (refused.status_code, accepted.status_code) == (503, 200)
    assert refused.json()["error"]["message"] == "the feedback was not stored; send it again"
