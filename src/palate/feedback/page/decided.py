"""What the votes on two answers decide, kept equal in the database and in the file of `--save`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from palate.errors import DataError
from palate.feedback.candidates import read_prompt
from palate.feedback.export.aggregate import decide
from palate.feedback.page.save import PreferenceFile, PreferenceRow, preference_row
from palate.feedback.queue.stored_votes import answer_texts, on_task
from palate.feedback.transfer import to_vote
from palate.feedback.votes import Vote, valid_votes
from palate.store import Store
from palate.store.tables import CampaignItem, Lease, Task, VoteRow

T = TypeVar("T")

_log = logging.getLogger(__name__)


def write_and_save(
    store: Store, file: PreferenceFile | None, work: Callable[[Session], T], task_of: Callable[[Session, T], int | None]
) -> T:
    """The result of a unit of work that adds votes; the pair that they decide is in the file when this returns.

    Args:
        file: of `--save`; None without it.
        task_of: the task that the result of `work` is about; None if no vote was added.
    """
    if file is None:
        return store.write(work)

    def work_and_compare(session: Session) -> tuple[T, PreferenceRow | None, PreferenceRow | None]:
        newest = session.scalar(select(func.max(VoteRow.number))) or 0
        result = work(session)
        task_id = task_of(session, result)
        if task_id is None:
            return result, None, None
        return result, decided_row(session, task_id, up_to=newest), decided_row(session, task_id)

    with file.lock:
        result, before, after = store.write(work_and_compare)
        file.change(before, after)
    return result


def task_of_lease(session: Session, lease_id: str) -> int | None:
    """The task of a lease; None if there is no such lease."""
    return session.scalar(select(Lease.task_id).where(Lease.id == lease_id))


def decided_row(session: Session, task_id: int, *, up_to: int | None = None) -> PreferenceRow | None:
    """The pair that people's votes on a task decide, None if they do not.

    A reviewer's deciding vote decides. Otherwise the majority does, once the task has the votes that it wants, unless
    somebody has flagged it or more than half of the votes say that both answers are bad (`aggregate.decide`). Gold
    tasks and repeats measure people and decide nothing.

    Args:
        up_to: number of the last vote that counts; None for all.
    """
    task = session.get_one(Task, task_id)
    if task.gold:
        return None
    wanted = select(VoteRow).where(on_task(VoteRow, task), VoteRow.kind == "person")
    if up_to is not None:
        wanted = wanted.where(VoteRow.number <= up_to)
    item = session.get_one(CampaignItem, task.item_id)
    votes = [to_vote(row, item.name) for row in session.scalars(wanted.order_by(VoteRow.number))]
    winner = _winner(votes, task.wanted)
    return None if winner is None else _row(session, task, item, winner)


def restore_pairs(store: Store, file: PreferenceFile) -> int:
    """Add the pairs that a killed server had committed, but not yet written to the file; returns their number."""
    since = file.interrupted
    if since is None:
        return 0
    with file.lock:
        rows = store.read(lambda session: _decided_since(session, since))
        return sum(file.add_missing(row) for row in rows)


def _winner(votes: list[Vote], wanted: int) -> str | None:
    """The result of the votes on one task; None if they decide for neither answer, or too few have decided."""
    valid = [vote for vote in valid_votes(votes) if not vote.repeat]
    deciding = any(vote.deciding for vote in valid)
    if not deciding and any(vote.outcome == "flag" for vote in valid):
        return None
    for (result,) in decide(valid).values():
        if (deciding or result.votes >= wanted) and result.result in ("left", "right"):
            return result.result
    return None


def _row(session: Session, task: Task, item: CampaignItem, winner: str) -> PreferenceRow | None:
    texts = answer_texts(session, task)
    chosen, rejected = (task.left, task.right) if winner == "left" else (task.right, task.left)
    try:
        return preference_row(read_prompt(item.prompt, item.name), texts[chosen], texts[rejected])
    except DataError as error:  # the vote itself is in the database
        _log.warning("%s: %s", item.name, error)
        return None


def _decided_since(session: Session, since: datetime) -> list[PreferenceRow]:
    wanted = (
        select(Task.id, func.max(VoteRow.number))
        .join(VoteRow, on_task(VoteRow, Task))
        .where(VoteRow.at >= since)
        .group_by(Task.id)
        .order_by(func.max(VoteRow.number))
    )
    rows = [decided_row(session, task_id) for task_id, _ in session.execute(wanted)]
    return [row for row in rows if row is not None]
