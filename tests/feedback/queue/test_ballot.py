"""What a person enters says the same of left and right in both orders, and is checked."""

from __future__ import annotations

from typing import Any

import pytest

from palate.errors import UsageError
from palate.feedback.campaigns.schema import CampaignSchema
from palate.feedback.queue.ballot import Ballot, Choice
from palate.feedback.votes import Outcome, Shown


@pytest.mark.parametrize(
    ("choice", "shown", "outcome", "strength"),
    [
        ("first_much", "left_first", "left", 2),
        ("first_much", "right_first", "right", 2),
        ("first", "left_first", "left", 1),
        ("first", "right_first", "right", 1),
        ("second", "left_first", "right", 1),
        ("second", "right_first", "left", 1),
        ("second_much", "left_first", "right", 2),
        ("second_much", "right_first", "left", 2),
        ("tie", "right_first", "tie", 1),
        ("both_bad", "left_first", "both_bad", 1),
        ("skip", "left_first", "skip", 1),
        ("flag", "right_first", "flag", 1),
    ],
)
def test_a_choice_is_turned_by_the_order_shown(choice: Choice, shown: Shown, outcome: Outcome, strength: int) -> None:
    ballot = Ballot(choice, "k", dimensions={"tone": (4, 2)})
    vote = ballot.vote(shown, item="i", left=1, right=3, who="ann", when="2026-01-31T12:00:00Z")
    assert (vote.outcome, vote.strength, vote.kind) == (outcome, strength, "person")
    assert vote.dimensions == {"tone": (4, 2) if shown == "left_first" else (2, 4)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"choice": "best"}, "choice 'best' is not one of first_much"),
        ({"tags": ("rude",)}, "tag 'rude' is not in the campaign's schema"),
        ({"dimensions": {"tone": (1, 2), "wit": (1, 2)}}, "dimension 'wit' is not in"),
        ({"dimensions": {"tone": (1, float("nan"))}}, "dimension 'tone': scores must be numbers"),
        ({"request_key": ""}, "request key must have 1 to 64"),
        ({"request_key": "k" * 65}, "request key must have 1 to 64"),
        ({"reason": "x\0"}, "cannot be stored"),
        ({"reason": "\ud800"}, "cannot be stored"),
        ({"reason": "x" * 20_001}, "the reason has 20,001 characters"),
        ({"seconds": -1.0}, "a time of -1.0 seconds"),
        ({"seconds_total": float("nan")}, "a time of nan seconds"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    schema = CampaignSchema(tags=("longer",), dimensions=("tone",))
    good = {"choice": "first", "request_key": "k", "tags": ("longer",), "dimensions": {"tone": (5, 1)}}
    Ballot(**good).check(schema)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as error:
        Ballot(**{**good, **fields}).check(schema)  # type: ignore[arg-type]
    assert message in str(error.value)
