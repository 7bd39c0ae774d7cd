"""Figures of people against values counted by hand and scipy's tests."""

from __future__ import annotations

import pytest
from scipy import stats

from labelling import Labelling, labelling
from palate.feedback.queue.people import PersonProgress, people
from palate.stats.intervals import wilson
from palate.store import Store


def figures(work: Labelling) -> list[PersonProgress]:
    return work.store.read(lambda session: people(session, "c"))


def test_side_bias_is_the_share_of_the_answer_shown_first(store: Store) -> None:
    work = labelling(store, 12, people=2, votes_per_item=2)
    for choice in ["first"] * 7 + ["first_much"] + ["second"] * 2 + ["tie", "both_bad"]:
        work.label(0, choice)  # type: ignore[arg-type]
    [person] = figures(work)  # p1 was given nothing
    assert (person.name, person.votes) == ("p0", 12)
    assert person.left_share == wilson(8, 10), "ties and both bad have no winner"
    assert person.side_bias == pytest.approx(stats.binomtest(8, 10).pvalue)
    assert (person.gold_accuracy, person.self_consistency, person.per_hour) == (None, None, None)


def test_speed_counts_active_time_with_pauses_cut_off(store: Store) -> None:
    work = labelling(store, 4)
    work.label(seconds=30.0, seconds_total=900.0)
    work.label(seconds=40_000.0)  # a night
    work.label()  # not measured
    work.label(choice="skip", seconds=5.0)
    [person] = figures(work)
    assert (person.votes, person.skipped, person.seconds) == (3, 1, 330.0)
    assert person.per_hour == pytest.approx(2 / 330 * 3600)


def test_undone_votes_do_not_count(store: Store) -> None:
    work = labelling(store, 3)
    work.label(choice="first", seconds=10.0)
    work.undo()
    [person] = figures(work)
    assert (person.votes, person.left_share, person.seconds) == (0, None, 0.0)
    work.label(choice="second", seconds=20.0)
    work.label(choice="flag")
    [person] = figures(work)
    assert (person.votes, person.flagged, person.seconds) == (1, 1, 20.0)
    assert person.left_share == wilson(0, 1)


def test_gold_accuracy_is_the_share_of_known_answers(store: Store) -> None:
    gold = {(f"i{number}", 0, 1): "left" for number in range(9)} | {("i9", 0, 1): "tie"}
    work = labelling(store, 30, gold=gold, gold_share=0.5)  # type: ignore[arg-type]
    right = asked = 0
    for number in range(20):
        task = work.given()
        choice = ("first", "second", "tie")[number % 3]
        work.vote(task.lease, choice)  # type: ignore[arg-type]
        if (task.item, 0, 1) in gold:
            asked += 1
            better = "first" if task.shown == "left_first" else "second"
            right += choice == (better if gold[task.item, 0, 1] == "left" else "tie")
    [person] = figures(work)
    assert 0 < right < asked
    assert person.gold_accuracy == wilson(right, asked)


def test_self_consistency_is_the_share_of_equal_votes_on_repeats(store: Store) -> None:
    work = labelling(store, 50, repeat_share=0.4)
    before: dict[str, str] = {}
    same = repeats = 0
    for number in range(40):
        task = work.given()
        choice = "first" if number % 3 else "tie"
        receipt = work.vote(task.lease, choice)  # type: ignore[arg-type]
        assert receipt.vote is not None
        if task.repeat:
            repeats += 1
            same += before[task.item] == receipt.vote.outcome
        before.setdefault(task.item, receipt.vote.outcome)
    [person] = figures(work)
    assert 0 < same < repeats
    assert person.self_consistency == wilson(same, repeats)
    assert person.votes == 40
