"""Gold tasks and repeats: their shares, and when they come."""

from __future__ import annotations

from collections import Counter

from scipy import stats

from labelling import candidate, labelling
from palate.feedback.campaigns.campaign import find_campaign, make_tasks
from palate.feedback.queue.assignment import BETWEEN_REPEATS
from palate.store import Store


def test_gold_tasks_go_to_everybody_at_their_share_and_use_no_slot(sqlite_store: Store) -> None:
    items = [candidate(f"i{number}") for number in range(200)]
    gold = {(f"i{number}", 0, 1): "left" for number in range(40)}
    work = labelling(sqlite_store, items, people=3, gold=gold, gold_share=0.15)  # type: ignore[arg-type]
    given = []
    for person in range(3):
        mine = [work.label(person) for _ in range(50)]
        assert len({task.item for task in mine}) == 50, "no gold task twice"
        given += mine
    drawn = sum((task.item, 0, 1) in gold for task in given)
    assert stats.binomtest(drawn, 150, 0.15).pvalue > 0.01
    assert Counter(vote.gold for vote in work.votes()) == {True: drawn, False: 150 - drawn}
    ordinary = [task for task in work.tasks() if not task.gold]
    assert sum(task.votes for task in ordinary) == 150 - drawn
    assert all((task.votes, task.open) == (0, 1) for task in work.tasks() if task.gold)


def test_without_a_gold_task_left_the_next_one_comes(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, 10, gold={("i0", 0, 1): "left"}, gold_share=0.9)
    assert len({work.label().item for _ in range(10)}) == 10
    assert work.next() is None


def test_repeats_come_with_sides_swapped_after_other_tasks(store: Store) -> None:
    work = labelling(store, 60, people=2, repeat_share=0.3)
    given = [work.label() for _ in range(60)]
    repeated = [number for number, task in enumerate(given) if task.repeat]
    # The first ones cannot be repeats yet.
    assert stats.binomtest(len(repeated), 60 - BETWEEN_REPEATS, 0.3).pvalue > 0.01
    for number in repeated:
        task = given[number]
        [before] = [n for n, other in enumerate(given) if other.item == task.item and not other.repeat]
        assert number - before > BETWEEN_REPEATS
        assert given[before].shown != task.shown
        assert (given[before].first, given[before].second) == (task.second, task.first)
        assert given[before].lease != task.lease
    assert max(Counter(task.item for task in given).values()) == 2, "no repeat of a repeat"
    assert sum(task.votes for task in work.tasks()) == 60 - len(repeated), "repeats use no slot"
    assert [vote.repeat for vote in work.votes()] == [task.repeat for task in given]


def test_what_a_person_skipped_is_not_repeated(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, 40, people=2, votes_per_item=2, repeat_share=0.5)
    given = [work.label(choice="skip" if number % 2 else "first") for number in range(40)]
    skipped = {task.item for number, task in enumerate(given) if number % 2 and not task.repeat}
    assert any(task.repeat for task in given)
    assert not any(task.repeat and task.item in skipped for task in given)


def test_tasks_that_are_made_again_in_mid_campaign_lose_nothing(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, 30, people=1, gold={("i3", 0, 1): "tie", ("i4", 0, 1): "tie"}, gold_share=0.2)
    first = [work.label().item for _ in range(10)]
    sqlite_store.write(lambda session: make_tasks(session, find_campaign(session, "c")))
    assert len({work.label().item for _ in range(20)} | set(first)) == 30
