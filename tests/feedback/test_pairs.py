"""Majorities, ties and margins, by hand."""

from __future__ import annotations

import pytest

from palate.errors import DataError
from palate.feedback.candidates import Candidates
from palate.feedback.pairs import decide, pairs_from_votes
from palate.feedback.votes import Vote
from palate.records import Answer, Message

ROW = Candidates("r", (Message("user", "q"),), tuple(Answer(text, "stop") for text in ("a", "b", "c")))


def vote(left: int, right: int, outcome: str, item: str = "r") -> Vote:
    return Vote(item, left, right, outcome, "w", "2026-01-31T12:00:00Z", "left_first")  # type: ignore[arg-type]


def pairs(*votes: Vote, **how: str) -> list[tuple[str, str, float]]:
    made = pairs_from_votes([ROW], votes, **how)  # type: ignore[arg-type]
    return [(pair["chosen"], pair["rejected"], pair["weight"]) for pair in made]


def test_the_majority_decides_and_its_margin_weighs() -> None:
    assert pairs(vote(0, 1, "left"), vote(0, 1, "left")) == [("a", "b", 1.0)]
    # (0 + 0 + 1) / 3 for left: right by a margin of 1/3.
    assert pairs(vote(0, 1, "right"), vote(0, 1, "right"), vote(0, 1, "left")) == [("b", "a", pytest.approx(1 / 3))]
    assert pairs(vote(0, 1, "left"), vote(0, 1, "tie")) == [("a", "b", 0.5)]


def test_ties_and_undecided_votes_make_no_pair() -> None:
    assert pairs(vote(0, 1, "left"), vote(0, 1, "right")) == []
    assert pairs(vote(0, 1, "tie"), vote(0, 1, "both_bad"), vote(0, 1, "unparsed")) == []
    assert decide([vote(0, 1, "both_bad"), vote(0, 1, "unparsed")]) == {}
    # What could not be read does not count against the majority either.
    assert pairs(vote(0, 1, "left"), vote(0, 1, "unparsed")) == [("a", "b", 1.0)]


def test_extremes_are_best_against_worst() -> None:
    votes = [vote(0, 1, "right"), vote(1, 2, "left"), vote(0, 2, "left")]  # b 1, a ½, c 0
    assert pairs(*votes, select="extremes") == [("b", "c", 1.0)]
    assert len(pairs(*votes)) == 3
    circle = [vote(0, 1, "left"), vote(1, 2, "left"), vote(0, 2, "right")]
    assert pairs(*circle, select="extremes") == []


def test_a_row_keeps_prompt_and_origin() -> None:
    (pair,) = pairs_from_votes([ROW], [vote(0, 2, "right")])
    assert pair["prompt"] == [{"role": "user", "content": "q"}]
    assert (pair["id"], pair["votes"]) == ("r#2>0", 1)


def test_votes_on_other_candidates_are_refused() -> None:
    with pytest.raises(DataError, match="a vote is on s"):
        pairs(vote(0, 1, "left", item="s"))
    with pytest.raises(DataError, match="answer 3 of r, which has 3 answers"):
        pairs(vote(0, 3, "left"))
