"""Many people at the same time: every task gets exactly the votes that it wants, none is lost or doubled."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from labelling import Labelling, labelling
from palate.feedback.campaigns.campaign import CampaignSchema, change_schema, find_campaign, make_tasks
from palate.feedback.queue.assignment import Assignment
from palate.feedback.queue.ballot import Ballot, Choice
from palate.feedback.queue.slots import release_expired
from palate.feedback.queue.voting import Receipt, next_assignment, submit, undo
from palate.feedback.votes import valid_votes
from palate.store import Store

THREADS, ITEMS, VOTES = 20, 100, 3


def in_threads(work: Callable[[int], None], count: int = THREADS) -> None:
    """Run `work` of each number in a thread of its own; the first error is raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def check(work: Labelling, items: int, votes: int) -> None:
    """Each of `items` tasks has exactly `votes` valid votes, of different people."""
    valid = [vote for vote in valid_votes(work.votes()) if vote.outcome not in ("skip", "flag")]
    assert Counter(Counter(vote.item for vote in valid).values()) == {votes: items}
    assert max(Counter((vote.item, vote.who) for vote in valid).values()) == 1
    assert all((task.votes, task.open) == (votes, 0) for task in work.tasks())
    assert len({vote.id for vote in valid}) == items * votes


def ask(store: Store, user: int, now: datetime) -> Assignment | None:
    return store.write(lambda session: next_assignment(session, "c", user, now))


def send(store: Store, lease: str, user: int, ballot: Ballot, now: datetime) -> Receipt:
    return store.write(lambda session: submit(session, lease, user, ballot, now))


def take_back(store: Store, user: int, now: datetime) -> Assignment | None:
    return store.write(lambda session: undo(session, "c", user, now))


def test_exactly_k_votes_each(store: Store) -> None:
    work = labelling(store, ITEMS, people=THREADS, votes_per_item=VOTES)
    recorded: list[str] = []

    def label(person: int) -> None:
        user = work.people[person]
        while (task := ask(store, user, datetime.now(UTC))) is not None:
            receipt = send(store, task.lease, user, Ballot("first", task.item), datetime.now(UTC))
            assert receipt.vote is not None
            recorded.append(receipt.vote.id)

    in_threads(label)
    check(work, ITEMS, VOTES)
    assert sorted(recorded) == sorted(vote.id for vote in work.votes()), "what was acknowledged is there, once"


def test_exactly_k_votes_with_skips_double_clicks_undo_and_expiry(store: Store) -> None:
    """Ten people do everything that can go wrong, at the same time; two of them leave tasks until these expire."""
    items, votes, people = 30, 3, 10
    work = labelling(store, items, people=people, votes_per_item=votes, lease_minutes=1)
    start = datetime.now(UTC)

    def label(person: int) -> None:
        rng, user = random.Random(person), work.people[person]
        for number in range(400):
            # Each person's clock is elsewhere, so leases expire under the hands of others.
            now = start + timedelta(seconds=number * 5)
            task = ask(store, user, now)
            if task is None:
                if rng.random() < 0.2:
                    break
                continue
            if person < 2 and rng.random() < 0.3:
                continue  # the tab is closed
            choice: Choice = rng.choices(["first", "second", "tie", "skip"], [5, 5, 2, 0.2])[0]  # type: ignore[assignment]
            ballot = Ballot(choice, f"k{number}")
            statuses = [send(store, task.lease, user, ballot, now).status for _ in range(2)]
            assert statuses[0] == "full" or statuses == ["recorded", "already"]
            if rng.random() < 0.1:
                take_back(store, user, now)

    in_threads(label, people)
    late = start + timedelta(days=1)
    while store.write(lambda session: release_expired(session, late)):
        pass
    # The rest, after everybody has gone: people who skipped a task are not asked again, but there are ten for three.
    for user in work.people:
        number = 0
        while (task := ask(store, user, late)) is not None:
            send(store, task.lease, user, Ballot("tie", f"late{number}"), late)
            number += 1
    check(work, items, votes)


def test_exactly_k_votes_where_k_changes_while_people_work(store: Store) -> None:
    items, people = 40, 8
    work = labelling(store, items, people=people, votes_per_item=1)
    changed = threading.Event()

    def label(person: int) -> None:
        user, number = work.people[person], 0
        while True:
            was_changed = changed.is_set()  # before asking: nothing left then means nothing left at all
            task = ask(store, user, datetime.now(UTC))
            if task is not None:
                send(store, task.lease, user, Ballot("tie", f"{number}"), datetime.now(UTC))
                number += 1
            elif was_changed:
                return

    def change(session: Session) -> None:
        change_schema(session, "c", CampaignSchema(votes_per_item=3), "test")

    def again(session: Session) -> None:
        make_tasks(session, find_campaign(session, "c"))

    def run(number: int) -> None:
        if number < people:
            label(number)
            return
        store.write(change)
        store.write(again)
        changed.set()

    in_threads(run, people + 1)
    check(work, items, 3)


def test_one_persons_requests_at_the_same_time_are_one_lease_and_one_vote(store: Store) -> None:
    work = labelling(store, 3, votes_per_item=2)
    user, now = work.people[0], datetime.now(UTC)
    leases: list[str] = []
    statuses: list[str] = []

    def load(_: int) -> None:
        task = ask(store, user, now)
        assert task is not None
        leases.append(task.lease)

    in_threads(load, 8)
    assert len(set(leases)) == 1

    def click(number: int) -> None:
        ballot = Ballot("first", "the same" if number % 2 else f"other {number}")
        statuses.append(send(store, leases[0], user, ballot, now).status)

    in_threads(click, 8)
    assert Counter(statuses) == {"recorded": 1, "already": 7}
    assert len(work.votes()) == 1
