"""Agreement of people with each other, and of judges with people, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from judged_world import people, world
from palate.feedback.agreement import annotator_quality, judge_agreement, people_agreement
from palate.feedback.people_votes import people_votes
from palate.feedback.votes import Vote
from palate.stats import cohen_kappa, fleiss_kappa, krippendorff_alpha


def vote(item: str, who: str, outcome: str, **more: Any) -> Vote:
    return Vote(item, 0, 1, outcome, who, "2026-01-31T12:00:00Z", **{"shown": "left_first", "kind": "person", **more})  # type: ignore[arg-type]


def test_two_people_by_hand() -> None:
    outcomes = [("left", "left"), ("right", "right"), ("left", "right"), ("tie", "tie")]
    votes = [vote(str(n), who, one) for n, pair in enumerate(outcomes) for who, one in zip("xy", pair)]
    found = people_agreement(people_votes([*votes, vote("alone", "x", "left")]))
    assert (found.people, found.questions, found.votes, found.voted_twice) == (2, 5, 9, 4)
    assert found.percent.estimate == 0.75
    first, second = zip(*outcomes, strict=True)
    assert found.cohen == cohen_kappa(first, second)
    assert (found.fleiss, found.fleiss_votes) == (fleiss_kappa(outcomes), 2)
    assert found.alpha_nominal == krippendorff_alpha(outcomes)


def test_strength_makes_five_levels_and_both_bad_is_on_none() -> None:
    votes = [
        vote("a", "x", "left", strength=2),
        vote("a", "y", "left"),
        vote("b", "x", "right", strength=2),
        vote("b", "y", "tie"),
        vote("c", "x", "both_bad"),
        vote("c", "y", "right"),
        vote("d", "x", "right"),
        vote("d", "y", "right"),
    ]
    found = people_agreement(people_votes(votes))
    levels = [[2, 1], [-2, 0], [None, -1], [-1, -1]]
    assert found.alpha_ordinal == krippendorff_alpha(levels, scale="ordinal")
    assert found.both_bad == 1
    assert found.percent.estimate == 0.5, "how much better does not count there"


def test_three_people_with_gaps() -> None:
    votes = [vote(str(n), who, "left" if n % 2 else "right") for n in range(6) for who in "xyz"]
    found = people_agreement(people_votes(votes[:-1]))
    assert found.cohen.reason == "Cohen's kappa needs two people, here 3"
    assert found.fleiss_votes == 3
    assert found.fleiss.interval is not None
    assert (found.fleiss.estimate, found.fleiss.interval.n) == (1, 5), "the question with two votes is not in it"
    assert found.alpha_nominal.interval is not None
    assert found.alpha_nominal.interval.n == 6


def test_one_person_has_no_agreement_and_a_reason() -> None:
    found = people_agreement(people_votes([vote("a", "x", "left"), vote("b", "x", "right")]))
    for figure in (found.percent, found.fleiss, found.alpha_nominal, found.alpha_ordinal):
        assert (figure.interval, figure.reason) == (None, "no item has two ratings")
    assert found.cohen.reason == "Cohen's kappa needs two people, here 1"
    assert found.fleiss_votes == 0


def test_quality_of_each_person() -> None:
    sides = ("left", "right")
    votes = [
        *(vote(f"g{n}", "x", "left", gold=True) for n in range(4)),
        vote("g0", "y", "right", gold=True),
        vote("unknown", "x", "left", gold=True),
        *(vote(f"q{n}", who, sides[n % 2], shown=f"{sides[n % 2]}_first") for n in range(6) for who in "xy"),
        *(vote(f"q{n}", "z", sides[1 - n % 2], shown=f"{sides[1 - n % 2]}_first") for n in range(6)),
        vote("q0", "x", "left", repeat=True, shown="right_first"),
        vote("q1", "x", "left", repeat=True, shown="left_first"),
    ]
    known = [vote(f"g{n}", "key", "left" if n < 3 else "right") for n in range(4)]
    x, y, z = annotator_quality(people_votes(votes), known)
    assert (x.who, y.who, z.who) == ("x", "y", "z")
    assert x.gold is not None
    assert (x.gold.estimate, x.gold.n) == (0.75, 4), "the question without a known answer is not in it"
    assert y.gold is not None
    assert y.gold.estimate == 0
    assert z.gold is None
    assert x.repeats is not None
    assert (x.repeats.estimate, x.repeats.n) == (0.5, 2)
    # For x the others are y and z, who never agree, so there is no majority; for z they are x and y.
    assert x.with_others is None
    assert z.with_others is not None
    assert (z.with_others.estimate, z.with_others.n) == (0, 6)
    for one in (x, z):  # both always chose the answer shown first
        assert one.first_won is not None
        assert one.first_won.estimate == 1
        assert one.first_p == pytest.approx(2 / 2**6)
    assert x.dawid_skene is not None
    assert z.dawid_skene is not None
    assert x.dawid_skene > 0.9 > 0.1 > z.dawid_skene
    assert x.mace is not None
    assert z.mace is not None
    assert x.mace > z.mace


def test_a_judge_against_the_majority_by_hand() -> None:
    votes = [
        *(vote("a", who, "left") for who in "xyz"),
        *(vote("b", who, outcome) for who, outcome in zip("xyz", ("right", "right", "left"))),
        *(vote("c", who, outcome) for who, outcome in zip("xy", ("right", "left"))),
        *(vote("d", who, "both_bad") for who in "xy"),
        *(vote("e", who, "tie") for who in "xy"),
        vote("f", "x", "left"),
        vote("g", "x", "left"),
    ]
    verdicts = {("a", 0, 1): 1.0, ("b", 0, 1): 0.75, ("c", 0, 1): 1.0, ("e", 0, 1): 0.5, ("f", 0, 1): None}
    found = judge_agreement(people_votes(votes), verdicts)
    assert (found.questions, found.no_majority, found.both_bad, found.unparsed, found.missing) == (5, 1, 1, 1, 1)
    assert found.agreement.interval is not None
    assert (found.agreement.estimate, found.agreement.interval.n) == (pytest.approx(2 / 3), 3)
    # κ of left left tie against left right tie: p_o = 2/3, p_e = (2/3 · 1/3) + 0 + 1/9 = 1/3, κ = 1/2.
    assert found.kappa.estimate == pytest.approx(0.5)
    # a: 3 of 3. b: each "right" has others right and left (no majority), "left" has two against it: 0 of 1.
    # c: the other one is the opposite: 0 of 2. e: 2 of 2. Both bad is left out.
    assert found.people.estimate == pytest.approx(5 / 8)
    assert judge_agreement(people_votes([vote("a", "x", "left")]), verdicts).people.reason == (
        "no question has the votes of two people"
    )


def test_a_person_alone_is_as_good_as_simulated() -> None:
    rows = world(400)
    found = judge_agreement(people_votes(people(rows, accuracy=0.8)), {})
    # Others agree (0.8² + 0.2²) of the time; then right on 0.8·0.8² + 0.2·0.2² of these.
    assert found.people.interval is not None
    assert (0.8**3 + 0.2**3) / (0.8**2 + 0.2**2) in found.people.interval
    assert found.missing == 400


def test_pairs_of_one_prompt_count_as_one_unit() -> None:
    votes = [replace(vote("a", who, "left"), right=right) for right in (1, 2, 3) for who in "xy"]
    found = people_agreement(people_votes([*votes, vote("b", "x", "right"), vote("b", "y", "left")]))
    assert found.percent.interval is not None
    assert (found.voted_twice, found.percent.interval.n) == (4, 2)
