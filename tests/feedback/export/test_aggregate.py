"""Dawid and Skene's model against a case by hand."""

from __future__ import annotations

import pytest

from palate.feedback.export.aggregate import decide
from palate.feedback.votes import Vote

pytest.importorskip("palate.stats.annotation.aggregation")


def vote(item: str, who: str, outcome: str) -> Vote:
    return Vote(item, 0, 1, outcome, who, "2026-01-31T12:00:00Z", "left_first", kind="person")  # type: ignore[arg-type]


def test_a_voter_who_is_always_wrong_counts_against_what_he_says() -> None:
    # Three voters agree on ten items, and a fourth always says the opposite; on the last item one of the three and the
    # fourth vote. By majority it is a tie; by error rates the fourth's vote is a vote for the other answer.
    votes = []
    for number in range(10):
        right, wrong = ("left", "right") if number % 2 else ("right", "left")
        votes += [vote(f"i{number}", who, right) for who in ("a", "b", "c")] + [vote(f"i{number}", "d", wrong)]
    votes += [vote("last", "a", "left"), vote("last", "d", "right")]
    assert decide(votes)["last"][0].result == "tie"
    (result,) = decide(votes, "dawid_skene")["last"]
    assert result.result == "left"
    assert result.weight == pytest.approx(1.0, abs=1e-3)
