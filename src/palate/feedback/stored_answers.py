"""The answers of a task in the store."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.store.tables import Response, Task


def pair_texts(session: Session, task: Task) -> dict[int, str]:
    """Number → text of the task's two answers."""
    rows = session.execute(
        select(Response.number, Response.text).where(
            Response.item_id == task.item_id, Response.number.in_((task.left, task.right))
        )
    )
    return dict(rows.all())
