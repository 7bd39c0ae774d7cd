"""Makes the tasks of a campaign: every two different answers of each item, with priority, probability and gold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import false, func, insert, select, update
from sqlalchemy.orm import Session

from palate.errors import DataError
from palate.feedback.campaigns.identity_leak import leaked_name
from palate.feedback.campaigns.schema import CampaignSchema, Order, read_schema
from palate.feedback.campaigns.task_order import disagreement_weights, draw_probabilities, margin_weights, priority
from palate.feedback.export.aggregate import decide
from palate.feedback.judging import different_pairs
from palate.feedback.queue.slots import lock_campaign, update_open, update_slots
from palate.feedback.queue.stored_votes import PairKey, judge_scores, people_votes
from palate.feedback.votes import Outcome, QuestionKey, Vote, valid_votes
from palate.store.tables import Campaign, CampaignItem, Lease, Participant, Response, Task

_MARGIN_COLUMNS = ("margin", "policy_margin")
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class MadeTasks:
    """What `make_tasks` did.

    Attributes:
        new: tasks that were made.
        same: tasks that were there already; their order is new.
        gold: tasks of all that have a known answer.
        leaks: tasks of all with an answer that names its model or maker.
        unranked: tasks whose margin or disagreement is not known; they come as those of the median margin.
        without_pair: items without two different answers; they have no task.
    """

    new: int
    same: int
    gold: int
    leaks: int
    unranked: int
    without_pair: int


@dataclass(slots=True)
class _Planned:
    """A task before it is stored; `text` names it in random choices."""

    key: PairKey
    text: str
    leak: bool
    margin: float | None
    weight: float = 1.0
    probability: float | None = None
    gold: str | None = None


def known_answers(votes: Iterable[Vote]) -> dict[QuestionKey, Outcome]:
    """The answers of gold tasks, by the majority of the votes of experts; `both_bad` if more than half say so.

    Raises:
        DataError: the votes on two answers have no majority.
    """
    found: dict[QuestionKey, Outcome] = {}
    for item, results in decide(valid_votes(votes)).items():
        for result in results:
            if result.result == "tie" and any(vote.outcome != "tie" for vote in result.cast):
                sides = f"{result.left} and {result.right}"
                raise DataError(f"gold: the votes on answers {sides} of {item} disagree evenly")
            found[item, result.left, result.right] = result.result
    if not found:
        raise DataError("gold: the file has no vote that decides")
    return found


def make_tasks(session: Session, campaign: Campaign, gold: Mapping[QuestionKey, Outcome] | None = None) -> MadeTasks:
    """Make the tasks of the campaign's items, and put all tasks in the order of its current schema.

    Tasks are never removed. A task that gold names and that nobody has voted on becomes a gold task: it is given to
    everybody at the schema's share and wants no votes. Votes of people that were imported count.

    Args:
        session: of a write transaction; the campaign is locked.
        gold: the better answer of pairs for which it is known.

    Raises:
        DataError: no item has two different answers; the order needs a column or votes that are missing; gold names
            other answers than the campaign has, or answers that people have voted on.
    """
    campaign = lock_campaign(session, campaign.id, change=True)
    schema = read_schema(session, campaign)
    columns = (Task.id, Task.item_id, Task.left, Task.right, Task.gold, Task.gold_outcome, Task.open, Task.wanted)
    known = {
        (task.item_id, task.left, task.right): task
        for task in session.execute(select(*columns).where(Task.campaign_id == campaign.id))
    }
    planned, without_pair = _planned(session, campaign, schema, gold or {}, known)
    unranked = _weigh(session, campaign, schema.order, planned)
    ordinary = [task for task in planned if task.gold is None]
    for task, probability in zip(ordinary, draw_probabilities([task.weight for task in ordinary]), strict=True):
        task.probability = probability
    _store(session, campaign, schema, planned, known)
    session.execute(
        update(Participant).where(Participant.campaign_id == campaign.id).values(place=None)  # the order is new
    )
    update_slots(session, campaign)
    session.flush()
    return MadeTasks(
        new=sum(task.key not in known for task in planned),
        same=sum(task.key in known for task in planned),
        gold=len(planned) - len(ordinary),
        leaks=sum(task.leak for task in planned),
        unranked=unranked,
        without_pair=without_pair,
    )


def count_votes(session: Session, campaign: Campaign) -> None:
    """Count the votes of people on each task again, after an import.

    Args:
        session: of a write transaction.
        campaign: locked for a change.
    """
    votes = people_votes(session, campaign.id)
    for task in session.scalars(select(Task).where(Task.campaign_id == campaign.id, Task.gold == false())):
        has = votes.get((task.item_id, task.left, task.right), 0)
        if has != task.votes:
            task.votes = has
            session.flush()
            update_open(session, task)
    session.flush()
    update_slots(session, campaign)


def _planned(
    session: Session,
    campaign: Campaign,
    schema: CampaignSchema,
    gold: Mapping[QuestionKey, Outcome],
    known: Mapping[PairKey, Any],
) -> tuple[list[_Planned], int]:
    """The tasks of all items in their order, those that exist included, and the number of items without one."""
    planned: list[_Planned] = []
    missing, without_pair = dict(gold), 0
    for item, texts in _items(session, campaign):
        every = different_pairs(item.name, texts)
        drawn = set(different_pairs(item.name, texts, per_prompt=schema.per_prompt, seed=schema.seed))
        wanted = {pair for pair in every if pair in drawn or (item.id, *pair) in known or (item.name, *pair) in missing}
        without_pair += not every
        leaks = [leaked_name(text) is not None for text in texts]
        for left, right in sorted(wanted):
            task = known.get((item.id, left, right))
            outcome = missing.pop((item.name, left, right), None)
            if outcome is not None and task is not None and not task.gold and task.open != task.wanted:
                raise DataError(f"gold: people label answers {left} and {right} of {item.name} already; leave them out")
            planned.append(
                _Planned(
                    key=(item.id, left, right),
                    text=f"{item.name} {left} {right}",
                    leak=leaks[left] or leaks[right],
                    margin=_margin(item, left, right) if schema.order == "uncertain" else None,
                    gold=outcome or (task.gold_outcome if task is not None else None),
                )
            )
    if missing:
        name, left, right = next(iter(missing))
        raise DataError(
            f"gold: campaign {campaign.name} has no item {name} with different answers {left} and {right}; "
            "import its candidates first"
        )
    if not planned:
        raise DataError(
            f"campaign {campaign.name} has no item with two different answers; add some with `palate label import`"
        )
    return planned, without_pair


def _items(session: Session, campaign: Campaign) -> Iterator[tuple[Any, list[str]]]:
    """Each item (id, name, columns) with the texts of its answers."""
    rows = session.execute(
        select(CampaignItem.id, CampaignItem.name, CampaignItem.columns, Response.text)
        .join(Response, Response.item_id == CampaignItem.id)
        .where(CampaignItem.campaign_id == campaign.id)
        .order_by(CampaignItem.id, Response.number),
        execution_options={"yield_per": _ROWS_AT_ONCE},
    )
    for _, group in groupby(rows, key=attrgetter("id")):
        answers = list(group)
        yield answers[0], [answer.text for answer in answers]


def _margin(item: Any, left: int, right: int) -> float | None:
    """The policy's margin of two answers: the column's number, or the difference of its scores, one per answer."""
    column = next((name for name in _MARGIN_COLUMNS if item.columns.get(name) is not None), None)
    if column is None:
        return None
    value = item.columns[column]
    if isinstance(value, list):
        if len(value) <= right:
            raise DataError(f"item {item.name}: {column} has {len(value)} scores; it needs one for each answer")
        scores = [_number(item, column, score) for score in value]
        return scores[left] - scores[right]
    return _number(item, column, value)


def _number(item: Any, column: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"item {item.name}: {column} {value!r} is not a finite number")
    return float(value)


def _weigh(session: Session, campaign: Campaign, order: Order, planned: list[_Planned]) -> int:
    """Set the weights of the tasks that are not gold; returns the number of those with an unknown one."""
    tasks = [task for task in planned if task.gold is None]
    if not tasks or order == "random":
        return 0
    if order == "uncertain":
        weights = margin_weights([task.margin for task in tasks])
        unranked = sum(task.margin is None for task in tasks)
    else:
        scores = judge_scores(session, campaign.id)
        given = [scores.get(task.key, []) for task in tasks]
        weights = disagreement_weights(given)
        unranked = sum(len(of_task) < 2 for of_task in given)
    for task, weight in zip(tasks, weights, strict=True):
        task.weight = weight
    return unranked


def _store(
    session: Session, campaign: Campaign, schema: CampaignSchema, planned: list[_Planned], known: Mapping[PairKey, Any]
) -> None:
    """Insert new tasks; give those that exist their new order, and gold ones their known answer."""
    votes, leased = people_votes(session, campaign.id), _leased(session, campaign)
    new, changed = [], []
    for task in planned:
        before = known.get(task.key)
        wanted = 0 if task.gold else schema.votes_per_item
        has = votes.get(task.key, 0)
        row: dict[str, Any] = {
            "priority": priority(schema.seed, task.text, task.weight),
            "probability": task.probability,
            "gold": task.gold is not None,
            "gold_outcome": task.gold,
            "wanted": wanted,
            "votes": has,
            "identity_leak": task.leak,
            "reopened": False,  # everybody begins at the first task again
        }
        if before is None:
            item, left, right = task.key
            row |= {"campaign_id": campaign.id, "item_id": item, "left": left, "right": right}
            new.append({**row, "open": 1 if task.gold else max(0, wanted - has), "flagged": False})
        else:
            free = max(0, wanted - has - leased.get(before.id, 0))
            changed.append({**row, "id": before.id, "open": 1 if task.gold else free})
    for start in range(0, len(new), _ROWS_AT_ONCE):
        session.execute(insert(Task), new[start : start + _ROWS_AT_ONCE])
    for start in range(0, len(changed), _ROWS_AT_ONCE):
        session.execute(update(Task), changed[start : start + _ROWS_AT_ONCE])


def _leased(session: Session, campaign: Campaign) -> dict[int, int]:
    """Number of leases in progress that take a slot, by task."""
    rows = session.execute(
        select(Lease.task_id, func.count())
        .where(Lease.campaign_id == campaign.id, Lease.state == "active", Lease.repeat == false())
        .group_by(Lease.task_id)
    )
    return dict(rows.all())
