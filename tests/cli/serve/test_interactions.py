"""`palate interactions` and `palate data from-interactions`: what they print, ask, and refuse."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palate.cli.main import main
from palate.cli.serve import interactions
from palate.serving.recording import Recorder, shared_secret
from palate.store import Store
from palate.store.serving_tables import ApiKey
from recorded import START, Recording


@pytest.fixture
def recording(sqlite_store: Store) -> Recording:
    """Three interactions on three days, of two people and a key, with feedback on two of them."""
    made = Recording(sqlite_store)
    made.recorder = Recorder(sqlite_store, secret=shared_secret(sqlite_store), clock=made.clock)
    sqlite_store.write(
        lambda session: session.add(ApiKey(id=1, name="app", key_hash="h", retention_days=1, created=START))
    )
    for number, (user, thumbs) in enumerate((("ann", "up"), ("ann", "down"), ("bob", None))):
        made.clock.now = START + timedelta(days=number)
        identifier = made.complete(f"Answer {number}", prompt=f"Question {number}", user=user, model=f"v{number}")
        if thumbs:
            made.rate(identifier, thumbs=thumbs)
    made.clock.now = START + timedelta(days=3)
    made.reserve(key_id=1, user=None, route="canary:production")
    return made


def listed(capsys: pytest.CaptureFixture[str], store: Store, *options: str) -> list[dict[str, Any]]:
    assert main(["interactions", "list", "--store", store.url, "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return list(found["interactions"])


def test_filters(recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    store = recording.store
    for options, models in (
        ((), ["v0", "v1", "v2", "v1"]),
        (("--thumbs", "down"), ["v1"]),
        (("--model", "v2"), ["v2"]),
        (("--state", "reserved"), ["v1"]),
        (("--key", "app"), ["v1"]),
        (("--route", "canary:production"), ["v1"]),
        (("--since", "2026-02-01T12:00:00Z", "--until", "2026-02-03"), ["v1", "v2"]),
        (("--limit", "1"), ["v1"]),
    ):
        assert [one["model"] for one in listed(capsys, store, *options)] == models, options
    first = listed(capsys, store)[0]
    assert (first["schema"], first["prompt"]) == (1, [{"role": "user", "content": "Question 0"}])
    assert (first["answers"][0]["text"], first["feedback"][0]["thumbs"]) == ("Answer 0", "up")
    assert main(["interactions", "show", first["id"], "--store", store.url]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert main(["interactions", "list", "--store", store.url, "--limit", "2"]) == 0
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == 2
    assert "the newest 2 of 4" in found.err


def test_forget_and_purge(recording: Recording, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = recording.store
    out = tmp_path / "out"
    arguments = ["data", "from-interactions", "--store", store.url, "-o", str(out), "--sample", "3"]
    assert main(arguments) == 0
    found = capsys.readouterr()
    assert "kto                  1 rows, at most 1 of a person" in found.out
    assert "2 people cannot each have at most 1% of the rows" in found.err
    assert main(["interactions", "forget", "--user", "ann", "--store", store.url, "--json"]) == 0
    erased = json.loads(capsys.readouterr().out)
    assert erased["rows"]["interactions"] == 2
    assert sum(erased["files"].values()) == 3
    assert erased["remaining"] == []
    assert [one["model"] for one in listed(capsys, store)] == ["v2", "v1"]
    assert main(["interactions", "purge", "--store", store.url, "--days", "0"]) == 0
    assert "2 interactions deleted" in capsys.readouterr().out


def test_deleting_is_confirmed(recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    store = recording.store
    asked = CliRunner().invoke(interactions.app, ["delete", "--thumbs", "up", "--store", store.url], input="n\n")
    assert asked.exit_code == 1
    assert "Delete 1 interaction of" in asked.output
    assert len(listed(capsys, store)) == 4
    assert main(["interactions", "delete", "--thumbs", "up", "--store", store.url, "--yes"]) == 0
    assert "interactions             1 rows deleted" in capsys.readouterr().out
    assert len(listed(capsys, store)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["interactions", "delete"], "name interactions by their ids, or by filters"),
        (["interactions", "delete", "x", "--thumbs", "up"], "name interactions by their ids, or by filters"),
        (["interactions", "list", "--since", "yesterday"], "--since yesterday: write a time in ISO 8601"),
        (["interactions", "show", "x"], "there is no interaction x"),
        (["interactions", "delete", "x"], "there is no interaction x"),
        (["data", "from-interactions", "-o", "x", "--share", "half=1"], "--share: names uniform, judge_uncertain"),
        (["data", "from-interactions", "-o", "x", "--share-per-user", "2"], "--share-per-user"),
    ],
)
def test_refusals(sqlite_store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main([*arguments, "--store", sqlite_store.url]) == 2
    assert message in capsys.readouterr().err


def test_a_store_that_does_not_exist_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["interactions", "list", "--store", str(tmp_path / "none.db")]) == 2
    assert "there is no such database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
