"""Majorities, ties and margins, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.errors import DataError
from palate.feedback.candidates import AnswerOrigin, Candidates
from palate.feedback.export.aggregate import decide
from palate.feedback.export.lineage import JudgeOrigin, VoteSource
from palate.feedback.export.pairs import make_pairs, pairs_from_votes
from palate.feedback.votes import Vote
from palate.records import Answer, Message

ROW = Candidates("r", (Message("user", "q"),), tuple(Answer(text, "stop") for text in ("a", "b", "c")))


def vote(left: int, right: int, outcome: str, item: str = "r") -> Vote:
    return Vote(item, left, right, outcome, "w", "2026-01-31T12:00:00Z", "left_first")  # type: ignore[arg-type]


def pairs(*votes: Vote, **how: str) -> list[tuple[str, str, float]]:
    made = pairs_from_votes([ROW], votes, **how)  # type: ignore[arg-type]
    return [(pair["chosen"][0]["content"], pair["rejected"][0]["content"], pair["weight"]) for pair in made]


def test_the_majority_decides_and_its_margin_weighs() -> None:
    assert pairs(vote(0, 1, "left"), vote(0, 1, "left")) == [("a", "b", 1.0)]
    # (0 + 0 + 1) / 3 for left: right by a margin of 1/3.
    assert pairs(vote(0, 1, "right"), vote(0, 1, "right"), vote(0, 1, "left")) == [("b", "a", pytest.approx(1 / 3))]
    assert pairs(vote(0, 1, "left"), vote(0, 1, "tie")) == [("a", "b", 0.5)]


def test_ties_and_undecided_votes_make_no_pair() -> None:
    assert pairs(vote(0, 1, "left"), vote(0, 1, "right")) == []
    assert pairs(vote(0, 1, "tie"), vote(0, 1, "both_bad"), vote(0, 1, "unparsed")) == []
    assert decide([vote(0, 1, "skip"), vote(0, 1, "unparsed")]) == {}
    # What could not be read does not count against the majority either.
    assert pairs(vote(0, 1, "left"), vote(0, 1, "unparsed")) == [("a", "b", 1.0)]


def test_both_bad_counts_for_neither_and_a_majority_of_it_makes_no_pair() -> None:
    # (2 − 0) / 3
    assert pairs(vote(0, 1, "left"), vote(0, 1, "left"), vote(0, 1, "both_bad")) == [("a", "b", pytest.approx(2 / 3))]
    votes = [vote(0, 1, "left"), vote(0, 1, "both_bad"), vote(0, 1, "both_bad")]
    assert pairs(*votes) == []
    assert dict(make_pairs([ROW], votes).left_out) == {"both_bad": 1}


def test_much_better_counts_twice_only_if_weighted() -> None:
    much = replace(vote(0, 1, "left"), strength=2)
    (result,) = decide([much, vote(0, 1, "right")])["r"]
    assert (result.result, result.weight) == ("tie", 0)
    (result,) = decide([much, vote(0, 1, "right")], "weighted")["r"]
    assert (result.result, result.share, result.weight) == ("left", pytest.approx(2 / 3), 0.5)  # (2 − 1) / 2
    (result,) = decide([much], "weighted")["r"]
    assert result.weight == 2
    # Two to one by number, two to two by weight.
    votes = [much, vote(0, 1, "right"), vote(0, 1, "right")]
    assert [decide(votes, how)["r"][0].result for how in ("majority", "weighted")] == ["right", "tie"]


def test_a_deciding_vote_replaces_the_others_and_the_conflict_stays() -> None:
    votes = [vote(0, 1, "left"), vote(0, 1, "right"), replace(vote(0, 1, "right"), deciding=True, kind="person")]
    (result,) = decide(votes)["r"]
    assert (result.result, result.weight, result.votes, result.given, result.conflict) == ("right", 1, 1, 3, True)


def test_conflicts_are_counted_among_comparisons_with_two_votes() -> None:
    votes = [vote(0, 1, "left"), vote(0, 1, "right"), vote(0, 2, "left"), vote(0, 2, "tie"), vote(1, 2, "left")]
    made = make_pairs([ROW], votes)
    assert (made.compared, made.repeated, made.conflicts) == (3, 2, 1)
    assert dict(made.left_out) == {"tie": 1}
    few = make_pairs([ROW], votes, min_votes=2)
    assert [(pair.chosen, pair.rejected) for pair in few.pairs] == [(0, 2)]
    assert dict(few.left_out) == {"tie": 1, "few_votes": 1}
    assert dict(make_pairs([ROW], votes, flagged={("r", 1, 2)}).left_out) == {"tie": 1, "flagged": 1}


def test_scores_by_dimension_are_means_in_the_order_chosen_rejected() -> None:
    votes = [
        replace(vote(0, 1, "right"), dimensions={"clarity": (1, 4), "safety": (3, 3)}),
        replace(vote(0, 1, "right"), dimensions={"clarity": (2, 5)}),
    ]
    (pair,) = pairs_from_votes([ROW], votes)
    assert pair["dimensions"] == {
        "clarity": {"chosen": 4.5, "rejected": 1.5},
        "safety": {"chosen": 3.0, "rejected": 3.0},
    }


def test_lineage_names_votes_voters_and_models_but_no_people() -> None:
    row = replace(ROW, origins=(AnswerOrigin("m", "h1"), AnswerOrigin("m", "h1"), AnswerOrigin("n")))
    votes = [
        replace(vote(0, 1, "left"), id="v1", kind="person", who="Ada", campaign="c", schema_version=2),
        replace(vote(0, 1, "left"), kind="person", who="Grace"),
        replace(vote(0, 1, "left"), who="judge-1"),
    ]
    (pair,) = make_pairs([row], votes).pairs
    origin = pair.record(VoteSource("campaign c", {"judge-1": JudgeOrigin("judge-1", "concise", card="ab12")})).extra
    assert origin["votes"] == 3
    assert origin["lineage"] == {
        "source": "campaign c",
        "item": "r",
        "answers": [0, 1],
        "models": ["m", "m"],
        "identities": ["h1", "h1"],
        "same_model": True,
        # With the comparison: a judge casts many votes in one second.
        "votes": [
            "v1",
            "person r 0-1 left_first 2026-01-31T12:00:00Z",
            "judge-1 r 0-1 left_first 2026-01-31T12:00:00Z",
        ],
        "voters": [{"kind": "person", "votes": 2}, {"kind": "judge", "votes": 1}],
        "judges": [{"name": "judge-1", "prompt": "concise", "card": "ab12"}],
        "campaigns": ["c"],
        "schema_versions": [2],
        "conflict": False,
    }
    (other,) = make_pairs([row], [vote(0, 2, "left")]).pairs
    assert other.record().extra["lineage"]["same_model"] is False


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
