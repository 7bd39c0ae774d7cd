"""Votes on disk, and what they say about a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import JsonlWriter
from palate.errors import DataError
from palate.feedback.votes import Shown, Vote, read_votes, summarise


def vote(outcome: str, shown: Shown = "left_first", item: str = "a") -> Vote:
    return Vote(item, 0, 1, outcome, "judge", "2026-01-31T12:00:00Z", shown)  # type: ignore[arg-type]


def test_votes_survive_the_disk(tmp_path: Path) -> None:
    votes = [vote("left"), vote("tie", "right_first")]
    with JsonlWriter(tmp_path / "v.jsonl") as file:
        for one in votes:
            file.write(one.to_json())
    assert read_votes(tmp_path / "v.jsonl") == votes


@pytest.mark.parametrize(
    "changed",
    [
        {"outcome": "best"},
        {"shown": "top"},
        {"colour": "red"},
        {"strength": 3},
        {"left": "0"},
        {"left": True},
        {"who": None},
        {"gold": 1},
        {"deciding": "no"},
        {"tags": "wrong"},
        {"tags": [1]},
        {"seconds": "10"},
        {"schema_version": 1.5},
        {"dimensions": {"clarity": [1]}},
        {"when": "yesterday"},
        {"when": "0001-01-01T00:00:00+05:00"},
    ],
)
def test_what_is_no_vote_is_named(tmp_path: Path, changed: dict[str, Any]) -> None:
    with JsonlWriter(tmp_path / "v.jsonl") as file:
        file.write({**vote("left").to_json(), **changed})
    with pytest.raises(DataError, match=r"v\.jsonl:1"):
        read_votes(tmp_path / "v.jsonl")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-01-31T17:45:00+05:45", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00.250000+00:00", "2026-01-31T12:00:00.250000Z"),
        ("2026-01-31 12:00", "2026-01-31T12:00:00Z"),
    ],
)
def test_times_are_read_as_utc(tmp_path: Path, written: str, read: str) -> None:
    with JsonlWriter(tmp_path / "v.jsonl") as file:
        file.write({**vote("left").to_json(), "when": written})
    assert [one.when for one in read_votes(tmp_path / "v.jsonl")] == [read]


def test_a_preference_for_a_place_shows() -> None:
    # a: left both times; b: the first both times; c: tie, then unparsed.
    votes = [
        vote("left"),
        vote("left", "right_first"),
        vote("left", item="b"),
        vote("right", "right_first", item="b"),
        vote("tie", item="c"),
        vote("unparsed", "right_first", item="c"),
    ]
    summary = summarise(votes)
    assert (summary.votes, summary.ties, summary.unparsed) == (6, 1, 1)
    assert (summary.questions, summary.consistent) == (2, 1), "c has one verdict, so its orders cannot disagree"
    assert summary.first_won == 0.75
    assert summarise([]).first_won is None
