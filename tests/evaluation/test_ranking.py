"""Which votes compare two models, under which names, and which models are rated together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from palate.errors import DataError, UsageError
from palate.evaluation.ranking import rank, read_verdicts
from palate.feedback.candidates import SAME_MODEL, AnswerOrigin, Candidates
from palate.feedback.votes import Vote
from palate.records import Answer, Message


def row(number: int, *models: str, lengths: tuple[int, ...] = (4, 4, 4), **more: Any) -> Candidates:
    """Answers of the named models to question `number`; `dpo#aa` is the model dpo with the hash aa."""
    origins = [AnswerOrigin(name.partition("#")[0], name.partition("#")[2] or None) for name in models]
    answers = tuple(Answer("x" * length, "stop") for _, length in zip(models, lengths))
    return Candidates(f"p{number}", (Message("user", f"q{number}"),), answers, **more).with_origins(origins)


def vote(number: int, outcome: Any, left: int = 0, right: int = 1, **more: Any) -> Vote:
    given = {"shown": "left_first", "kind": "person", **more}
    return Vote(f"p{number}", left, right, outcome, "ann", "2026-01-01T00:00:00Z", **given)


def test_scores_are_of_the_answer_shown_first() -> None:
    rows = [row(1, "a", "b", "c", lengths=(9, 4, 2))]
    votes = [
        vote(1, "left"),
        vote(1, "left", shown="right_first"),
        vote(1, "tie", 0, 2),
        vote(1, "both_bad", 1, 2),
        vote(1, "right", 1, 2, shown="right_first"),
    ]
    found = read_verdicts([(rows, votes)])
    assert [(one.first, one.second, one.score, one.length) for one in found.rows] == [
        ("a", "b", 1.0, 5),
        ("b", "a", 0.0, -5),
        ("a", "c", 0.5, 7),
        ("b", "c", 0.5, 2),
        ("c", "b", 1.0, -2),
    ]
    assert found.kinds == {"person": 5}
    assert len({one.prompt for one in found.rows}) == 1


def test_votes_that_compare_no_two_models_are_counted() -> None:
    rows = [row(1, "a", "b"), row(2, "a", "a"), row(3, "a#1", "b#1"), row(4, "a", "b", columns={SAME_MODEL: True}),
            row(5, "", "b")]  # fmt: skip
    votes = [
        vote(1, "left", id="v1"),
        vote(1, "right", id="v2", supersedes="v1"),
        *(vote(number, "left") for number in (2, 3, 4, 5, 6)),
        vote(1, "left", saw_judge=True),
        vote(1, "left", identity_leak=True),
        vote(1, "skip"),
        vote(1, "left", gold=True),
        vote(1, "left", repeat=True),
        vote(1, "unparsed", kind="judge"),
        vote(1, "left", 0, 7),
    ]
    found = read_verdicts([(rows, votes)])
    assert len(found.rows) == 1
    assert found.left_out == {
        "superseded by a later vote": 1,
        "a model with itself": 3,
        "an answer without the name of its model": 1,
        "on an answer that is not in the candidates": 2,
        "saw a judge's verdict": 1,
        "an answer names its model": 1,
        "skipped": 1,
        "gold question": 1,
        "repeated question": 1,
        "unparsed": 1,
    }


def test_one_kind_of_voter() -> None:
    votes = [vote(1, "left"), vote(1, "left", kind="judge"), vote(1, "right", kind="judge")]
    assert read_verdicts([([row(1, "a", "b")], votes)]).kinds == {"person": 1, "judge": 2}
    found = read_verdicts([([row(1, "a", "b")], votes)], kind="judge")
    assert (found.kinds, found.left_out) == ({"judge": 2}, {"not of a judge": 1})


def test_weights_decide_which_models_are_the_same() -> None:
    sources = [
        ([row(1, "dpo#aaaaaaaaaa", "sft#bb")], [vote(1, "left")]),
        ([row(1, "dpo#cccccccccc", "sft#bb")], [vote(1, "left")]),
        ([row(1, "final#aaaaaaaaaa", "sft#bb")], [vote(1, "left")]),
    ]
    found = read_verdicts(sources)
    assert [one.first for one in found.rows] == ["dpo (aaaaaaaa)", "dpo (cccccccc)", "dpo (aaaaaaaa)"]
    assert len({one.prompt for one in found.rows}) == 1  # the same question in three folders is one cluster


def rated(*duels: tuple[str, str, str], **options: Any) -> Any:
    """Ratings of `(first, second, outcomes)`, one prompt for each letter of the outcomes (l, r or t)."""
    words = {"l": "left", "r": "right", "t": "tie"}
    rows, votes = [], []
    for first, second, outcomes in duels:
        for letter in outcomes:
            number = len(rows)
            rows.append(row(number, first, second, lengths=(4 + number % 3, 5)))
            shown = "left_first" if number % 2 else "right_first"
            votes.append(vote(number, words[letter], shown=shown))
    return rank(read_verdicts([(rows, votes)]), **options)


def test_groups_that_never_met_are_rated_apart() -> None:
    first, second = rated(("a", "b", "llrrtl"), ("b", "c", "lrlrrt"), ("x", "y", "lrrl"), anchor="y")
    assert (set(first.models), set(second.models)) == ({"a", "b", "c"}, {"x", "y"})
    assert (first.votes, second.votes) == (12, 4)
    assert first.apart == second.apart == "no comparison with other models"
    assert first.result.anchor in first.models
    assert second.result.anchor == "y"


def test_a_model_that_won_everything_has_no_rating_and_is_named() -> None:
    found = rated(("a", "b", "llrrtl"), ("best", "a", "llll"), ("best", "b", "ll"), ("worst", "b", "rr"))
    by_models = {tuple(sorted(group.models)): group for group in found}
    assert by_models[("a", "b")].result.ratings
    assert by_models[("best",)].result is None
    assert by_models[("best",)].apart == "won all of 6 comparisons with other models"
    assert by_models[("worst",)].apart == "lost all of 2 comparisons with other models"
    assert "every other model has won all or lost all" in by_models[("a", "b")].apart


def test_length_control_adds_its_coefficient() -> None:
    (only,) = rated(("a", "b", "llrrtlrrlt"))
    assert only.apart == ""
    plain = only.result
    controlled = rated(("a", "b", "llrrtlrrlt"), length_control=True)[0].result
    assert plain.covariates == ()
    assert len(controlled.covariates) == 1


def test_nothing_to_rate_and_an_unknown_anchor_are_named() -> None:
    with pytest.raises(DataError, match=r"no vote compares two models \(skipped 1\)"):
        rank(read_verdicts([([row(1, "a", "b")], [vote(1, "skip")])]))
    unnamed = row(1, "", "")
    with pytest.raises(DataError, match=r"name of its model 1\); name what wrote each answer in the candidates"):
        rank(read_verdicts([([unnamed], [vote(1, "left")])]))
    with pytest.raises(UsageError, match="--anchor z: the votes are on a, b"):
        rated(("a", "b", "lr"), anchor="z")
    assert rank(replace(read_verdicts([([row(1, "a", "b")], [vote(1, "tie")])])))[0].result.reason
