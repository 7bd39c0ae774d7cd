"""Labels of single answers, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.feedback.candidates import Candidates
from palate.feedback.export.labels import make_labels
from palate.feedback.votes import Vote
from palate.records import Answer, Message

ROW = Candidates("r", (Message("user", "q"),), tuple(Answer(text, "stop") for text in ("a", "b", "c")))


def vote(left: int, right: int, outcome: str) -> Vote:
    return Vote("r", left, right, outcome, "w", "2026-01-31T12:00:00Z", "left_first")  # type: ignore[arg-type]


def labels(*votes: Vote, **how: object) -> dict[int, tuple[bool, float]]:
    made = make_labels([ROW], votes, **how)  # type: ignore[arg-type]
    return {label.number: (label.desirable, label.weight) for label in made.labels}


def test_winners_are_desirable_and_losers_are_not() -> None:
    votes = [vote(0, 1, "left"), vote(0, 1, "left"), vote(0, 1, "right")]
    assert labels(*votes) == {0: (True, pytest.approx(1 / 3)), 1: (False, pytest.approx(1 / 3))}


def test_both_bad_makes_two_undesirable_answers_weighed_by_its_share() -> None:
    votes = [vote(0, 1, "both_bad"), vote(0, 1, "both_bad"), vote(0, 1, "left")]
    assert labels(*votes) == {0: (False, pytest.approx(2 / 3)), 1: (False, pytest.approx(2 / 3))}
    (first, _) = make_labels([ROW], votes).labels
    assert first.record().extra["lineage"]["both_bad"] is True


def test_an_answer_that_won_and_lost_has_no_label() -> None:
    made = make_labels([ROW], [vote(0, 1, "right"), vote(1, 2, "right")])
    assert {label.number: label.desirable for label in made.labels} == {0: False, 2: True}
    assert dict(made.left_out) == {"won_and_lost": 1}


def test_several_comparisons_give_the_mean_weight() -> None:
    votes = [vote(0, 1, "left"), vote(0, 2, "left"), vote(0, 2, "tie")]
    assert labels(*votes) == {0: (True, 0.75), 1: (False, 1.0), 2: (False, 0.5)}


def test_ties_few_votes_and_flags_give_no_label() -> None:
    votes = [vote(0, 1, "tie"), vote(1, 2, "left")]
    assert labels(*votes) == {1: (True, 1.0), 2: (False, 1.0)}
    made = make_labels([ROW], votes, min_votes=2)
    assert (made.labels, dict(made.left_out)) == ((), {"few_votes": 2})
    assert dict(make_labels([ROW], votes, flagged={("r", 1, 2)}).left_out) == {"tie": 1, "flagged": 1}


def test_a_record_has_prompt_tools_and_answer() -> None:
    row = replace(ROW, tools="[]")
    (winner, _) = make_labels([row], [vote(0, 2, "left")]).labels
    record = winner.record()
    assert (record.prompt, record.completion[0].content, record.desirable) == (row.prompt, "a", True)
    assert (record.id, record.tools, record.extra["lineage"]["answers"]) == ("r#0", "[]", [0])
