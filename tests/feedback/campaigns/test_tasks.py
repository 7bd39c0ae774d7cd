"""Tasks of a campaign: every two different answers, in an order with known probabilities, gold by experts' votes."""

from __future__ import annotations

import pytest

from labelling import START, candidate, labelling
from palate.errors import DataError
from palate.feedback.campaigns.campaign import CampaignSchema, change_schema, find_campaign, make_tasks
from palate.feedback.campaigns.tasks import MadeTasks, known_answers
from palate.feedback.transfer import import_candidates, import_votes
from palate.feedback.votes import Outcome, Vote, time_text
from palate.store import Store


def vote(item: str, outcome: Outcome, who: str = "ann", kind: str = "person", shown: str = "left_first") -> Vote:
    return Vote(item, 0, 1, outcome, who, time_text(START), shown, kind=kind)  # type: ignore[arg-type]


def test_every_two_different_answers_are_a_task(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, [candidate("a", "x", "y", " x "), candidate("b", "same", "same")])
    tasks = {(task.left, task.right) for task in work.tasks()}
    assert tasks == {(0, 1), (1, 2)}, "0 and 2 of a differ in white space only"
    assert [task.probability for task in work.tasks()] == [0.5, 0.5]
    again = sqlite_store.write(lambda session: make_tasks(session, find_campaign(session, "c")))
    assert again == MadeTasks(new=0, same=2, gold=0, leaks=0, unranked=0, without_pair=1)


def test_per_prompt_takes_the_same_pairs_as_a_judge_is_asked(sqlite_store: Store) -> None:
    from palate.feedback.judging import questions

    rows = [candidate(f"i{number}", "a", "b", "c", "d") for number in range(5)]
    work = labelling(sqlite_store, rows, per_prompt=2, seed=3)
    asked = sorted((q.left, q.right) for q in questions(rows, per_prompt=2, seed=3) if q.shown == "left_first")
    assert sorted((task.left, task.right) for task in work.tasks()) == asked
    assert len(asked) == 10


def test_uncertain_order_by_a_column_of_margins(sqlite_store: Store) -> None:
    # |margins|: 0, 1, 3 and unknown; the median of the known ones is 1, so the weights are 1, 1/2, 1/4 and 1/2.
    rows = [
        candidate("a", margin=0.0),
        candidate("b", margin=-1),
        candidate("c", policy_margin=[2.0, -1.0]),
        candidate("d"),
    ]
    work = labelling(sqlite_store, rows, order="uncertain")
    probabilities = {task.item_id: task.probability for task in work.tasks()}
    assert [probabilities[number] for number in (1, 2, 3, 4)] == pytest.approx(
        [1 / 2.25, 0.5 / 2.25, 0.25 / 2.25, 0.5 / 2.25]
    )
    made = sqlite_store.write(lambda session: make_tasks(session, find_campaign(session, "c")))
    assert made.unranked == 1


def test_small_margins_come_first_on_average(sqlite_store: Store) -> None:
    rows = [candidate(f"i{number}", margin=0.01 if number % 2 else 50.0) for number in range(100)]
    work = labelling(sqlite_store, rows, order="uncertain")
    items = {number + 1: rows[number].columns["margin"] for number in range(100)}
    first = [items[task.item_id] for task in work.tasks()[:50]]
    # The median |margin| is 25.005, so the weights are 1 and 1/3; drawn uniformly it would be 25 of 50.
    assert first.count(0.01) >= 31


@pytest.mark.parametrize("margin", ["x", True, [0.1], [0.1, None]])
def test_a_margin_that_is_no_number_is_refused_by_name(sqlite_store: Store, margin: object) -> None:
    with pytest.raises(DataError, match="item b: margin"):
        labelling(sqlite_store, [candidate("a", margin=1.0), candidate("b", margin=margin)], order="uncertain")


def test_disagreement_order_by_imported_judges(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, [candidate("a"), candidate("b"), candidate("c")])
    votes = [
        vote("a", "left", "judge 1", "judge"),
        vote("a", "right", "judge 1", "judge", "right_first"),  # the two orders of one judge
        vote("b", "left", "judge 1", "judge"),
        vote("b", "left", "judge 2", "reward_model"),
        vote("c", "right", "ann"),  # a person is no judge
    ]
    schema = CampaignSchema(order="disagreement", votes_per_item=2)

    def again(session):  # type: ignore[no-untyped-def]
        import_votes(session, "c", votes)
        change_schema(session, "c", schema, "test")
        return make_tasks(session, find_campaign(session, "c"))

    assert sqlite_store.write(again).unranked == 1
    tasks = {task.item_id: task for task in work.tasks()}
    # split: 1, agreed: 0.05, unknown: 0.5
    assert [tasks[number].probability for number in (1, 2, 3)] == pytest.approx([1 / 1.55, 0.05 / 1.55, 0.5 / 1.55])
    assert [(tasks[n].votes, tasks[n].open) for n in (1, 2, 3)] == [(0, 2), (0, 2), (1, 1)], "a person's vote counts"


def test_an_order_without_its_column_or_votes_says_what_is_missing(sqlite_store: Store) -> None:
    with pytest.raises(DataError, match="no item has a column margin"):
        labelling(sqlite_store, 2, order="uncertain")
    with pytest.raises(DataError, match="import them with `palate label import`"):
        labelling(sqlite_store, 2, order="disagreement")


def test_tasks_that_are_added_later_mix_in(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, 20)
    before = [task.id for task in work.tasks()]

    def add(session):  # type: ignore[no-untyped-def]
        import_candidates(session, "c", [candidate(f"new{number}") for number in range(20)])
        return make_tasks(session, find_campaign(session, "c"))

    assert (sqlite_store.write(add).new, len(work.tasks())) == (20, 40)
    after = [task.id for task in work.tasks()]
    assert [task for task in after if task in set(before)] == before, "the order of the others is as it was"
    assert after[:20] != before
    assert sum(task.probability or 0 for task in work.tasks()) == pytest.approx(1)


def test_answers_that_name_their_maker_are_marked_on_task_and_vote(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, [candidate("a", "I am Claude.", "Hello."), candidate("b")])
    work.label()
    work.label()
    assert {vote.item: vote.identity_leak for vote in work.votes()} == {"a": True, "b": False}
    assert sorted(task.identity_leak for task in work.tasks()) == [False, True]


def test_gold_tasks_have_no_probability_and_want_no_votes(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, 3, gold={("i1", 0, 1): "right"})
    gold = [task for task in work.tasks() if task.gold]
    assert [(task.item_id, task.gold_outcome, task.probability, task.wanted) for task in gold] == [
        (2, "right", None, 0)
    ]
    assert [task.probability for task in work.tasks() if not task.gold] == [0.5, 0.5]
    made = sqlite_store.write(lambda session: make_tasks(session, find_campaign(session, "c")))
    assert made.gold == 1, "it stays gold"


def test_gold_that_does_not_fit_is_refused(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, 2)
    task = work.label()

    def with_gold(item: str, right: int = 1) -> None:
        gold: dict[tuple[str, int, int], Outcome] = {(item, 0, right): "left"}
        sqlite_store.write(lambda session: make_tasks(session, find_campaign(session, "c"), gold))

    with pytest.raises(DataError, match=f"people label answers 0 and 1 of {task.item} already"):
        with_gold(task.item)
    with pytest.raises(DataError, match="no item i9 with different answers 0 and 1"):
        with_gold("i9")
    with pytest.raises(DataError, match="with different answers 0 and 2"):
        with_gold("i1", 2)


def test_known_answers_are_the_experts_majority() -> None:
    votes = [
        *(vote("a", "left", who) for who in ("ann", "bob")),
        vote("a", "right", "cat"),
        vote("b", "tie"),
        vote("c", "both_bad"),
        vote("d", "skip"),
    ]
    assert known_answers(votes) == {("a", 0, 1): "left", ("b", 0, 1): "tie", ("c", 0, 1): "both_bad"}
    with pytest.raises(DataError, match="the votes on answers 0 and 1 of a disagree evenly"):
        known_answers([vote("a", "left"), vote("a", "right", "bob")])
    with pytest.raises(DataError, match="no vote that decides"):
        known_answers([vote("a", "skip")])
