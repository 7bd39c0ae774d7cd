"""Whether a version that was promoted is worse in its first hours than the version before: what both did, compared.

The bounds hold however often one looks (`stats.sequential_interval`), so an equal version is rolled back with a
probability of at most `alpha`, over all looks and figures together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from pydantic import Field
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from palate.config.base import Fields
from palate.stats import percentile_bound, sequential_difference, sequential_interval
from palate.stats.refusals import BEGINNING, is_refusal
from palate.store.serving_tables import FeedbackRow, Interaction, InteractionAnswer, holds

ANSWERS_PER_PERSON = 20
"""The first answers of a person that count, so that one busy client does not decide; of thumbs, one counts."""
COUNTED_ENDS = ("complete", "upstream_error", "partial")
"""States in which a request ended that say something of the version; not what the client or the engine did."""
MAX_ANSWERS = 5_000
"""Answers of a version that count: of the new one its first, of the one before its last."""
_READ = 50_000
"""The last requests of the version before, among which its last answers are."""
_TAIL = 0.05


class RollbackFields(Fields):
    """The keys of an automatic rollback. Each figure is compared with the version before; null ignores it."""

    hours: float = Field(24.0, gt=0, description="Hours after a promotion in which its version may be rolled back.")
    at_least: int = Field(200, ge=20, description="Recorded answers of each version before it can be rolled back.")
    errors: float | None = Field(0.05, gt=0, lt=1, description="Largest accepted increase of the share of failures.")
    latency_p95: float | None = Field(
        1.0, gt=0, description="Largest accepted increase of the 95th percentile of an answer's time: 1 is twice."
    )
    refusals: float | None = Field(0.1, gt=0, lt=1, description="Largest accepted increase of the share of refusals.")
    thumbs_down: float | None = Field(
        0.1, gt=0, lt=1, description="Largest accepted increase of the share of thumbs down among people who gave one."
    )
    alpha: float = Field(0.05, gt=0, le=0.2, description="How often an equal version may be rolled back, at most.")

    @property
    def alpha_each(self) -> float:
        """Of one figure: a rollback may be wrong on any of them."""
        given = (self.errors, self.latency_p95, self.refusals, self.thumbs_down)
        return self.alpha / max(1, sum(margin is not None for margin in given))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a version did, in the order in which its answers ended; values of different lists are independent.

    Attributes:
        version: its name.
        errors: whether each answer failed. Left out are those that say nothing of the version: cut off by the client or
            the end of the server, refused, or not sent to an engine. Failures one after another count as one, because
            an engine that is down is one event; those after the last answer count each, as nobody knows yet.
        seconds: from request to end, of each that did not fail; with those that ran out of time.
        refusals: whether each answer whose text is recorded refuses, as `is_refusal` reads it.
        downs: whether each thumb is down.
        answers: how many there were, each failure counted.
    """

    version: str
    errors: Sequence[bool] = ()
    seconds: Sequence[float] = ()
    refusals: Sequence[bool] = ()
    downs: Sequence[bool] = ()
    answers: int = 0


def read_behaviour(
    session: Session,
    version: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    unnamed: Collection[str] = (),
) -> Behaviour:
    """What a version did with requests that came from `since` on, or the last ones before `until`.

    Args:
        unnamed: hashes of people in place of a client that names nobody; each of its requests counts.
    """
    within = [Interaction.model == version, ~Interaction.route.startswith("shadow:")]
    within += [Interaction.created < until] if until is not None else []
    if last := since is None:  # all that it ever did may be millions of rows
        newest = select(Interaction.created).where(*within).order_by(Interaction.created.desc())
        since = session.scalar(newest.offset(_READ).limit(1))
    within += [Interaction.created >= since] if since is not None else []
    text = func.substr(InteractionAnswer.text, 1, 2 * BEGINNING).label("text")
    first = (InteractionAnswer.interaction_id == Interaction.id) & (InteractionAnswer.number == 0)
    ended = (Interaction.finished.is_not(None), Interaction.state.in_(COUNTED_ENDS))
    answers = select(Interaction.state, Interaction.created, Interaction.finished, text)
    answers = answers.outerjoin(InteractionAnswer, first).where(*within, *ended)
    thumbs = select((FeedbackRow.thumbs == "down").label("down"))
    thumbs = thumbs.join(Interaction, FeedbackRow.interaction_id == Interaction.id)
    thumbs = thumbs.where(*within, holds(), FeedbackRow.thumbs.is_not(None))
    order, by = (Interaction.finished, Interaction.id), (Interaction.user,)
    rows = first_of_each(session, answers, ANSWERS_PER_PERSON, order, by, unnamed=unnamed, last=last, limit=MAX_ANSWERS)
    downs = first_of_each(session, thumbs, 1, (FeedbackRow.number,), by, unnamed=unnamed, last=last, limit=MAX_ANSWERS)
    failed = [row.state == "upstream_error" for row in rows if row.state != "partial"]
    return Behaviour(
        version,
        _events(failed),
        [(row.finished - row.created).total_seconds() for row in rows if row.state != "upstream_error"],
        [is_refusal(row.text) for row in rows if row.state == "complete" and (row.text or "").strip()],
        [bool(row.down) for row in downs],
        len(failed),
    )


def _events(failed: Sequence[bool]) -> list[bool]:
    """Failures without those that follow another one, but for the last ones of all."""
    end = next((end for end in range(len(failed), 0, -1) if not failed[end - 1]), 0)
    return [now for before, now in pairwise([False, *failed[:end]]) if not (before and now)] + list(failed[end:])


def first_of_each(
    session: Session,
    rows: Any,
    most: int,
    order: Sequence[Any],
    by: Sequence[Any],
    *,
    unnamed: Collection[str] = (),
    last: bool = False,
    limit: int | None = None,
) -> Sequence[Any]:
    """The first rows of each person in their order, with the columns `user`, `rank` (of the person's) and `position`.

    Args:
        rows: a select of `Interaction` and what is joined.
        most: rows of each person, that is of each combination of the columns `by`.
        order: columns by which all are ordered, ascending.
        unnamed: as in `read_behaviour`.
        last: the last ones instead, still in ascending order.
        limit: of all.
    """
    ordered = [column.desc() for column in order] if last else list(order)
    rank = func.row_number().over(partition_by=by, order_by=ordered).label("rank")
    position = func.row_number().over(order_by=ordered).label("position")
    numbered = rows.add_columns(Interaction.user, rank, position).subquery()
    counts = or_(numbered.c.rank <= most, numbered.c.user.in_(unnamed))
    found = session.execute(select(numbered).where(counts).order_by(numbered.c.position).limit(limit)).all()
    return found[::-1] if last else found


def compare(before: Behaviour, after: Behaviour, fields: RollbackFields) -> dict[str, bool]:
    """A line for each figure that both have → whether it is shown that `after` is worse by more than the margin.

    With fewer than `at_least` answers of either, nothing is worse.
    """
    enough = min(before.answers, after.answers) >= fields.at_least
    found: dict[str, bool] = {}
    shares = (
        ("errors", fields.errors, before.errors, after.errors),
        ("refusals", fields.refusals, before.refusals, after.refusals),
        ("thumbs down", fields.thumbs_down, before.downs, after.downs),
    )
    for name, margin, old, new in shares:
        if margin is None or not (old and new):
            continue
        difference = sequential_difference(old, new, level=1 - 2 * fields.alpha_each)
        line = (
            f"{name}: {sum(new) / len(new):.1%} of {len(new):,}, {before.version} {sum(old) / len(old):.1%} of "
            f"{len(old):,}; increase at least {100 * difference.low:.1f} points, accepted {100 * margin:g}"
        )
        found[line] = enough and difference.low > margin
    bound = percentile_bound(before.seconds, 1 - _TAIL, fields.alpha_each / 2)
    if fields.latency_p95 is not None and bound is not None and after.seconds:
        longest = bound * (1 + fields.latency_p95)
        slow = [seconds > longest for seconds in after.seconds]
        low = sequential_interval(slow, level=1 - fields.alpha_each).low
        line = (
            f"latency: {sum(slow) / len(slow):.1%} of {len(slow):,} took longer than {longest:.3g} s, which is "
            f"{1 + fields.latency_p95:g} times the 95th percentile of {before.version}; at least {low:.1%} do, "
            f"accepted {_TAIL:.0%}"
        )
        found[line] = enough and low > _TAIL
    return found
