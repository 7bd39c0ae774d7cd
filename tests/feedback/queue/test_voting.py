"""The queue, one request at a time: leases, votes, second tabs, expiry, undo, skips and flags."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from labelling import Labelling, candidate, labelling
from palate.errors import UsageError
from palate.feedback.campaigns.campaign import find_campaign
from palate.feedback.queue.ballot import Ballot
from palate.feedback.queue.slots import release_expired
from palate.feedback.queue.voting import reserve, submit
from palate.feedback.votes import valid_votes
from palate.store import Store
from palate.store.tables import Campaign

HOUR = timedelta(hours=1)


def expire(work: Labelling) -> int:
    """An hour passes, and leases that are over are ended."""
    work.now += HOUR
    return work.store.write(lambda session: release_expired(session, work.now))


def counts(work: Labelling) -> list[tuple[int, int]]:
    """(votes, open slots) of each task."""
    return [(task.votes, task.open) for task in work.tasks()]


def test_a_person_gets_every_task_once_in_the_order_of_the_queue(store: Store) -> None:
    work = labelling(store, 5, votes_per_item=2)
    order = [task.item_id for task in work.tasks()]
    given = [work.label() for _ in range(5)]
    assert [int(task.item[1:]) + 1 for task in given] == order
    assert work.next() is None
    assert [task.done for task in given] == [0, 1, 2, 3, 4]
    assert [task.remaining for task in given] == [5, 4, 3, 2, 1]
    assert counts(work) == [(1, 1)] * 5


def test_the_assignment_is_what_the_page_shows(store: Store) -> None:
    work = labelling(store, [candidate("a", "L", "R")], criteria="be kind", seed=5)
    task = work.given()
    assert (task.first, task.second) == (("L", "R") if task.shown == "left_first" else ("R", "L"))
    assert task.prompt[0].content == "question a"
    assert (task.schema.criteria, task.schema_version, task.repeat) == ("be kind", 1, False)
    receipt = work.vote(task.lease, "first_much", reason="short", seconds=4.5, seconds_total=9.0)
    vote = receipt.vote
    assert vote is not None
    assert vote.outcome == ("left" if task.shown == "left_first" else "right")
    assert (vote.strength, vote.reason, vote.seconds, vote.seconds_total) == (2, "short", 4.5, 9.0)
    assert (vote.kind, vote.who, vote.campaign, vote.schema_version) == ("person", "p0", "c", 1)
    assert work.votes() == [vote], "as it is in the store"


def test_sides_are_random_per_task_and_person_and_stay(store: Store) -> None:
    work = labelling(store, 40, people=2, votes_per_item=2)
    sides = [{task.item: task.shown for task in (work.label(person) for _ in range(40))} for person in (0, 1)]
    for of_person in sides:
        assert 8 <= list(of_person.values()).count("left_first") <= 32
    differ = sum(sides[0][item] != sides[1][item] for item in sides[0])
    assert 8 <= differ <= 32, "those of another person are others"


def test_two_tabs_show_the_same_task(store: Store) -> None:
    work = labelling(store, 3)
    assert work.given().lease == work.given().lease
    assert counts(work).count((0, 0)) == 1


def test_a_double_click_is_one_vote(store: Store) -> None:
    work = labelling(store, 2)
    task, ballot = work.given(), work.ballot("tie")
    receipts = [
        store.write(lambda session: submit(session, task.lease, work.people[0], ballot, work.now)) for _ in range(2)
    ]
    assert [receipt.status for receipt in receipts] == ["recorded", "already"]
    assert receipts[0].vote == receipts[1].vote
    assert len(work.votes()) == 1


def test_the_back_button_does_not_vote_again(store: Store) -> None:
    work = labelling(store, 2)
    task = work.label(choice="first")
    receipt = work.vote(task.lease, "second")
    assert receipt.status == "already"
    assert receipt.vote == work.votes()[0]
    assert len(work.votes()) == 1


def test_another_persons_task_and_key_are_refused(store: Store) -> None:
    work = labelling(store, 2, people=2)
    task = work.given(0)
    with pytest.raises(UsageError, match="not given to you"):
        work.vote(task.lease, person=1)
    with pytest.raises(UsageError, match="not given to you"):
        work.vote("no such lease")
    assert work.vote(task.lease, request_key="same").status == "recorded"
    assert work.vote(work.given(1).lease, person=1, request_key="same").status == "recorded", "keys are a person's own"


def test_an_expired_task_goes_to_somebody_else(store: Store) -> None:
    work = labelling(store, 1, people=2)
    slow = work.given(0)
    assert work.next(1) is None
    assert expire(work) == 1
    assert work.given(1).item == slow.item
    receipt = work.vote(slow.lease, person=0)
    assert (receipt.status, receipt.vote) == ("full", None), "the other one has the slot"
    assert work.votes() == []


def test_a_late_vote_counts_while_there_is_room(store: Store) -> None:
    work = labelling(store, 1, people=3, votes_per_item=2)
    slow = work.given(0)
    work.label(1)
    expire(work)
    assert counts(work) == [(1, 1)]
    assert work.vote(slow.lease, person=0).status == "recorded"
    assert counts(work) == [(2, 0)]
    assert work.next(2) is None


def test_a_task_that_expired_is_given_to_the_same_person_again_with_the_same_sides(store: Store) -> None:
    work = labelling(store, 1)
    before = work.given()
    expire(work)
    after = work.given()
    assert (after.lease, after.shown) == (before.lease, before.shown)
    assert len(work.leases()) == 1


def test_looking_at_a_task_again_gives_it_more_time(store: Store) -> None:
    work = labelling(store, 1, people=2, lease_minutes=30)
    work.given(0)
    work.now += timedelta(minutes=29)
    work.given(0)
    work.now += timedelta(minutes=29)
    assert work.next(1) is None
    work.now += timedelta(minutes=2)
    assert work.next(1) is not None, "asking for a task ends leases that are over"


@pytest.mark.parametrize("choice", ["skip", "flag"])
def test_a_skip_frees_the_slot_for_others_only(store: Store, choice: str) -> None:
    work = labelling(store, 2, people=2)
    left = work.label(0, choice)  # type: ignore[arg-type]
    other = work.label(0)
    assert work.next(0) is None
    assert other.item != left.item
    assert work.label(1).item == left.item
    assert work.next(1) is None
    assert [task.flagged for task in work.tasks()].count(True) == (choice == "flag")


def test_a_slot_that_comes_back_is_found_by_people_who_are_past_it(store: Store) -> None:
    work = labelling(store, 6, people=2)
    first = work.given(0)
    passed = [work.label(1), work.label(1)]
    assert first.item not in {task.item for task in passed}
    work.vote(first.lease, "skip", person=0)
    assert work.given(1).item == first.item, "before the tasks that come later in the order"


def test_undo_takes_the_last_vote_back(store: Store) -> None:
    work = labelling(store, 3)
    task = work.label(choice="first")
    shown = work.given()
    undone = work.undo()
    assert undone is not None
    assert (undone.lease, undone.done) == (task.lease, 0)
    assert [vote.outcome for vote in work.votes()][1:] == ["skip"]
    assert work.votes()[1].supersedes == work.votes()[0].id
    assert work.given().lease == task.lease, "it comes before the one that was shown meanwhile"
    assert work.vote(task.lease, "second").status == "recorded"
    assert work.given().lease == shown.lease
    [valid] = valid_votes(work.votes())
    assert valid.first_won is False
    assert valid.supersedes == work.votes()[1].id
    assert sum(task.votes for task in work.tasks()) == 1


def test_undo_goes_back_step_by_step(store: Store) -> None:
    work = labelling(store, 4)
    leases = [work.label().lease for _ in range(3)]
    work.given()
    assert [undone.lease for undone in (work.undo(), work.undo()) if undone] == [leases[2], leases[1]]
    work.label(choice="tie")
    work.label(choice="tie")
    assert [vote.outcome for vote in valid_votes(work.votes())].count("tie") == 2
    undone = work.undo()
    assert undone is not None
    assert undone.lease == leases[2], "the last vote, not the last task"
    assert [work.undo() is not None for _ in range(3)] == [True, True, False]
    assert counts(work) == [(0, 0)] * 4, "all four are the person's now"
    assert [vote.outcome for vote in valid_votes(work.votes())] == ["skip"] * 3


def test_an_undone_vote_can_be_sent_again_but_not_by_its_old_form(store: Store) -> None:
    work = labelling(store, 1)
    task = work.given()
    ballot = work.ballot("first")

    def send(ballot: Ballot) -> str:
        return store.write(lambda session: submit(session, task.lease, work.people[0], ballot, work.now)).status

    assert send(ballot) == "recorded"
    work.undo()
    assert send(ballot) == "already", "a request that was delayed on its way"
    assert send(work.ballot("second")) == "recorded"
    assert [vote.outcome == "skip" for vote in work.votes()] == [False, True, False]


def test_undo_of_a_skip_needs_a_free_slot(store: Store) -> None:
    work = labelling(store, 1, people=2)
    task = work.label(0, "skip")
    undone = work.undo(0)
    assert undone is not None
    assert undone.lease == task.lease
    assert work.next(1) is None, "the slot is taken again"
    work.vote(task.lease, "skip", person=0)
    work.label(1)
    assert work.undo(0) is None
    assert counts(work) == [(1, 0)]


def test_undo_of_a_flag_takes_the_mark_away(store: Store) -> None:
    work = labelling(store, 1, people=2, votes_per_item=2)
    work.label(0, "flag")
    work.label(1, "flag")
    work.undo(0)
    assert [task.flagged for task in work.tasks()] == [True], "another person flagged it too"
    work.undo(1)
    assert [task.flagged for task in work.tasks()] == [False]


def test_nothing_to_undo(store: Store) -> None:
    work = labelling(store, 2, people=2)
    assert work.undo() is None
    work.label(1)
    assert work.undo(0) is None, "another person's vote is not mine"
    work.given(0)
    assert work.undo(0) is None


def test_an_undone_task_that_expired_still_takes_its_vote(store: Store) -> None:
    work = labelling(store, 1, people=2)
    task = work.label(0)
    work.undo(0)
    expire(work)
    assert counts(work) == [(0, 1)]
    assert work.vote(task.lease, "tie", person=0).status == "recorded"
    assert counts(work) == [(1, 0)]


def test_a_closed_campaign_gives_no_tasks_but_takes_votes(store: Store) -> None:
    work = labelling(store, 2)
    task = work.given()

    def close(session) -> Campaign:  # type: ignore[no-untyped-def]
        campaign = find_campaign(session, "c")
        campaign.closed = True
        return campaign

    store.write(close)
    assert work.next() is None
    assert work.vote(task.lease).status == "recorded"


def test_reserved_tasks_wait_for_their_person(store: Store) -> None:
    work = labelling(store, 5, people=2)
    until = work.now + timedelta(days=7)
    assert store.write(lambda session: reserve(session, "c", work.people[0], 3, until, work.now)) == 3
    others = [work.label(1).item for _ in range(2)]
    work.now += timedelta(days=6)
    assert work.next(1) is None
    mine = [work.label(0).item for _ in range(3)]
    assert len({*others, *mine}) == 5
    assert work.next(0) is None
    assert store.write(lambda session: reserve(session, "c", work.people[0], 3, until, work.now)) == 0


def test_an_unknown_person_is_refused(store: Store) -> None:
    work = labelling(store, 1)
    work.people[0] = 999
    with pytest.raises(UsageError, match="no person with the number 999"):
        work.next()


def test_every_query_of_a_request_uses_an_index(sqlite_store: Store) -> None:
    work = labelling(sqlite_store, 40, gold={("i0", 0, 1): "left"}, gold_share=0.2, repeat_share=0.2, votes_per_item=2)
    for number in range(20):
        work.label(choice="skip" if number % 5 == 4 else "first")
    asked: dict[str, object] = {}

    def note(connection, cursor, statement, parameters, context, many) -> None:  # type: ignore[no-untyped-def]
        if (statement.startswith("SELECT") and "LIMIT" in statement) or "FROM votes" in statement:
            asked[statement] = parameters

    event.listen(sqlite_store.engine, "before_cursor_execute", note)
    for _ in range(20):
        work.label()
    work.undo()
    event.remove(sqlite_store.engine, "before_cursor_execute", note)

    def plan(session: Session, statement: str) -> list[str]:
        rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", asked[statement])
        return [row[3] for row in rows]

    plans = [
        (statement, sqlite_store.read(lambda session, statement=statement: plan(session, statement)))
        for statement in asked
    ]
    assert len(plans) >= 8
    for statement, steps in plans:
        assert not any(step.startswith(("SCAN", "USE TEMP")) for step in steps), f"{statement}: {steps}"
    used = "\n".join(step for _, steps in plans for step in steps)
    assert "ix_tasks_next (campaign_id=? AND gold=? AND priority>?)" in used, "the next task in order"
    assert "ix_tasks_reopened (campaign_id=? AND priority<?)" in used, "slots that came back"
    assert "ix_leases_user (campaign_id=? AND user_id=? AND state=?)" in used, "the task in progress"
    assert "ix_leases_expiry (state=? AND expires<?)" in used
    assert "ix_votes_user (user_id=?)" in used, "the last vote, for undo"
