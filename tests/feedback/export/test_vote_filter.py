"""Which votes make training data, by reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.errors import UsageError
from palate.feedback.export.vote_filter import filter_votes
from palate.feedback.votes import Vote

BASE = Vote("r", 0, 1, "left", "ann", "2026-01-31T12:00:00Z", "left_first", kind="person")
JUDGE = replace(BASE, who="j", kind="judge")


def test_votes_that_measure_the_voter_or_decide_nothing_are_left_out_by_reason() -> None:
    votes = [
        replace(BASE, id="1"),
        replace(BASE, id="2", supersedes="1", outcome="skip"),
        replace(BASE, id="3", supersedes="2"),
        replace(BASE, item="s", gold=True),
        replace(BASE, item="t", repeat=True),
        replace(BASE, item="u", saw_judge=True),
        replace(BASE, item="v", identity_leak=True),
        replace(BASE, item="w", outcome="flag"),
        replace(BASE, item="x", outcome="skip"),
    ]
    found = filter_votes(votes)
    assert [vote.id for vote in found.votes] == ["3"]
    assert dict(found.left_out) == {
        "superseded": 2,
        "gold": 1,
        "repeat": 1,
        "saw_judge": 1,
        "identity_leak": 1,
        "flag": 1,
        "skip": 1,
    }
    assert found.flagged == {("w", 0, 1)}
    assert found.kinds == {"person": 1}
    assert len(filter_votes(votes, identity_leaks=True).votes) == 2


def test_people_and_judges_are_not_mixed_unless_asked() -> None:
    votes = [BASE, JUDGE, replace(JUDGE, shown="right_first"), replace(JUDGE, who="rm", kind="reward_model")]
    with pytest.raises(UsageError, match=r"of people \(1\) and of judges \(3\).*--voters people, judges or all"):
        filter_votes(votes)
    assert filter_votes(votes, voters="all").kinds == {"person": 1, "judge": 2, "reward_model": 1}
    people = filter_votes(votes, voters="people")
    assert (people.kinds, people.left_out) == ({"person": 1}, {"other_voters": 3})
    assert filter_votes(votes, voters="judges").kinds == {"judge": 2, "reward_model": 1}
    # A person whose only vote does not count mixes nothing.
    assert filter_votes([replace(BASE, outcome="skip"), JUDGE]).kinds == {"judge": 1}


def test_of_two_votes_on_one_question_the_later_counts() -> None:
    person = filter_votes([BASE, replace(BASE, outcome="right", shown="right_first")])
    assert [vote.outcome for vote in person.votes] == ["right"]
    assert person.left_out == {"duplicate": 1}
    judge = filter_votes([JUDGE, replace(JUDGE, shown="right_first"), replace(JUDGE, outcome="tie")])
    assert [(vote.shown, vote.outcome) for vote in judge.votes] == [("right_first", "left"), ("left_first", "tie")]


def test_a_reviewer_lifts_a_flag() -> None:
    flag = replace(BASE, outcome="flag")
    assert filter_votes([flag, BASE]).flagged == {("r", 0, 1)}
    assert filter_votes([flag, replace(BASE, who="rev", deciding=True)]).flagged == frozenset()
