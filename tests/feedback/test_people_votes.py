"""Which votes of people count, and which are counted as left out."""

from __future__ import annotations

from typing import Any

from palate.feedback.people_votes import people_votes
from palate.feedback.votes import Vote


def vote(item: str, who: str, outcome: str, **more: Any) -> Vote:
    return Vote(item, 0, 1, outcome, who, "2026-01-31T12:00:00Z", **{"shown": "left_first", "kind": "person", **more})  # type: ignore[arg-type]


def test_only_blind_votes_of_people_that_were_not_replaced_count() -> None:
    votes = [
        vote("a", "x", "left", id="1"),
        vote("a", "x", "skip", id="2", supersedes="1"),
        vote("a", "x", "right", id="3", supersedes="2"),
        vote("b", "x", "left", saw_judge=True),
        vote("c", "x", "left", identity_leak=True),
        vote("d", "x", "flag"),
        vote("e", "judge", "left", kind="judge"),
        vote("f", "x", "left", gold=True),
        vote("a", "x", "right", repeat=True, shown="right_first"),
        vote("g", "x", "left", repeat=True),
        vote("h", "reviewer", "left", deciding=True),
    ]
    found = people_votes(votes)
    assert [(one.item, one.outcome) for one in found.votes] == [("a", "right")]
    assert [(one.outcome, two.outcome) for one, two in found.repeats] == [("right", "right")]
    assert [one.item for one in found.gold] == ["f"]
    assert found.left_out == {
        "superseded by a later vote": 2,
        "saw a judge's verdict": 1,
        "an answer names its model": 1,
        "flagged": 1,
        "not a person's": 1,
        "repeat of a vote that does not count": 1,
        "a reviewer's decision": 1,
    }
    counted = len(found.votes) + len(found.repeats) + len(found.gold) + sum(found.left_out.values())
    assert counted == len(votes), "every vote is somewhere"
