"""A campaign with items and people, for tests of the queue."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.feedback.campaigns.campaign import CampaignSchema, create_campaign, find_campaign, make_tasks
from palate.feedback.candidates import Candidates
from palate.feedback.queue.assignment import Assignment
from palate.feedback.queue.ballot import Ballot, Choice
from palate.feedback.queue.voting import Receipt, next_assignment, submit, undo
from palate.feedback.transfer import import_candidates, votes_in
from palate.feedback.votes import Outcome, QuestionKey, Vote
from palate.records import Answer, Message
from palate.store import Store
from palate.store.tables import Lease, Task, User

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def candidate(name: str, *texts: str, **columns: Any) -> Candidates:
    """A candidates row, by default with two answers."""
    answers = texts or (f"left of {name}", f"right of {name}")
    prompt = (Message("user", f"question {name}"),)
    return Candidates(name, prompt, tuple(Answer(text, "stop") for text in answers), columns=columns)


@dataclass
class Labelling:
    """A campaign `c` in a store, with people `p0`, `p1` … whose ids are in `people`. Its clock is moved by hand."""

    store: Store
    people: list[int]
    now: datetime = START
    _keys: Any = field(default_factory=itertools.count)

    def next(self, person: int = 0) -> Assignment | None:
        return self.store.write(lambda session: next_assignment(session, "c", self.people[person], self.now))

    def given(self, person: int = 0) -> Assignment:
        """What the person does next, which there must be."""
        found = self.next(person)
        assert found is not None
        return found

    def ballot(self, choice: Choice = "first", **fields: Any) -> Ballot:
        return Ballot(choice, **{"request_key": f"key {next(self._keys)}", **fields})

    def vote(self, lease: str, choice: Choice = "first", person: int = 0, **fields: Any) -> Receipt:
        ballot = self.ballot(choice, **fields)
        self.now += timedelta(seconds=1)
        return self.store.write(lambda session: submit(session, lease, self.people[person], ballot, self.now))

    def label(self, person: int = 0, choice: Choice = "first", **fields: Any) -> Assignment:
        """Give the person a task and vote on it."""
        task = self.given(person)
        assert self.vote(task.lease, choice, person, **fields).status == "recorded"
        return task

    def undo(self, person: int = 0) -> Assignment | None:
        self.now += timedelta(seconds=1)
        return self.store.write(lambda session: undo(session, "c", self.people[person], self.now))

    def tasks(self) -> list[Task]:
        """In the order of the queue."""
        return self.store.read(lambda session: list(session.scalars(select(Task).order_by(Task.priority))))

    def leases(self) -> list[Lease]:
        return self.store.read(lambda session: list(session.scalars(select(Lease).order_by(Lease.number))))

    def votes(self) -> list[Vote]:
        return self.store.read(lambda session: votes_in(session, "c"))


def labelling(
    store: Store,
    items: int | Sequence[Candidates] = 3,
    people: int = 1,
    gold: Mapping[QuestionKey, Outcome] | None = None,
    **schema: Any,
) -> Labelling:
    """A campaign with tasks; `schema` are fields of its schema."""
    rows = [candidate(f"i{number}") for number in range(items)] if isinstance(items, int) else items

    def work(session: Session) -> list[int]:
        users = [User(name=f"p{number}", role="annotator", created=START) for number in range(people)]
        session.add_all(users)
        create_campaign(session, "c", CampaignSchema(**schema), "test")
        import_candidates(session, "c", rows)
        make_tasks(session, find_campaign(session, "c"), gold)
        session.flush()
        return [user.id for user in users]

    return Labelling(store, store.write(work))
