"""Candidates rows as items and responses of a campaign, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from palate.artifacts import plain
from palate.errors import DataError
from palate.feedback.campaigns.campaign import find_campaign
from palate.feedback.candidates import AnswerOrigin, Candidates, prompt_turns, read_prompt
from palate.feedback.transfer.checks import BATCH, Imported, batches, check_number, check_text
from palate.records import Answer
from palate.store.tables import CampaignItem, Response

_LONGEST_ID = 500


def import_candidates(session: Session, campaign_name: str, rows: Iterable[Candidates]) -> Imported:
    """Add rows to a campaign as items with responses; rows that it has already are counted.

    Args:
        session: of one transaction, so that either all rows are added or none.
        rows: any number; only a batch is held.

    Raises:
        DataError: the campaign has another row with the same id, or a value cannot be stored; nothing is added.
        UsageError: there is no such campaign.
    """
    campaign = find_campaign(session, campaign_name)
    new = same = 0
    for batch in batches(rows):
        known = {row.id: row for row in _read(session, campaign.id, [row.id for row in batch])}
        fresh = []
        for given in batch:
            row = _plain(given)
            before = known.get(row.id)
            if before is None:
                fresh.append(row)
                known[row.id] = row
            elif before == row:
                same += 1
            else:
                raise DataError(
                    f"candidates {row.id}: the campaign {campaign_name} has this id with other content; give the row "
                    "another id, or import it into another campaign"
                )
        _insert(session, campaign.id, fresh)
        new += len(fresh)
    return Imported(new, same)


def candidates_in(session: Session, campaign_name: str) -> list[Candidates]:
    """The candidates of a campaign in the order in which they were imported.

    Raises:
        UsageError: there is no such campaign.
    """
    return list(_read(session, find_campaign(session, campaign_name).id))


def _origins(row: Candidates) -> list[AnswerOrigin]:
    return [row.origin(number) for number in range(len(row.completions))]


def _plain(row: Candidates) -> Candidates:
    """The row as it is read back. Raises DataError for a value that cannot be stored."""
    where = f"candidates {row.id[:100]}"
    if not row.completions:
        raise DataError(f"{where}: has no completions")
    row = replace(row, prompt=read_prompt(prompt_turns(row.prompt), where), columns=plain(row.columns))
    row = row.with_origins([replace(origin, decoding=plain(origin.decoding)) for origin in row.origins])
    _check(row, where)
    return row


def _check(row: Candidates, where: str) -> None:
    check_text(row.id, "its id", where, _LONGEST_ID)
    check_text(row.tools, "tools", where)
    for number, (answer, origin) in enumerate(zip(row.completions, _origins(row))):
        check_text(answer.text, f"completion {number}", where)
        check_text(answer.finish_reason, "finish_reason", where)
        check_text(origin.model, "model", where)
        check_text(origin.identity, "identity", where)
        check_number(answer.tokens, "tokens", where)
        check_number(origin.seed, "seed", where, seed=True)


def _insert(session: Session, campaign_id: int, rows: Sequence[Candidates]) -> None:
    if not rows:
        return
    now = datetime.now(UTC)
    items = []
    for row in rows:
        prompt = prompt_turns(row.prompt)
        items.append(
            {
                "campaign_id": campaign_id,
                "name": row.id,
                "prompt": prompt,
                "tools": row.tools,
                "columns": dict(row.columns),
                "content_hash": _hash(json.dumps([prompt, row.tools], sort_keys=True)),
                "created": now,
            }
        )
    # In the order of the rows, which is also the order of the ids, by which `_read` sorts.
    ids = session.scalars(insert(CampaignItem).returning(CampaignItem.id, sort_by_parameter_order=True), items).all()
    session.execute(
        insert(Response),
        [
            {
                "item_id": item,
                "number": number,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "tokens": answer.tokens,
                "model": origin.model,
                "identity": origin.identity,
                "seed": origin.seed,
                "decoding": dict(origin.decoding),
                "content_hash": _hash(answer.text),
            }
            for item, row in zip(ids, rows, strict=True)
            for number, (answer, origin) in enumerate(zip(row.completions, _origins(row)))
        ],
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(session: Session, campaign_id: int, names: Sequence[str] | None = None) -> Iterator[Candidates]:
    """The rows of a campaign in the order of their items; `names`: only those of these rows."""
    items = (
        select(CampaignItem.id, CampaignItem.name, CampaignItem.prompt, CampaignItem.tools, CampaignItem.columns)
        .where(CampaignItem.campaign_id == campaign_id)
        .order_by(CampaignItem.id)
    )
    if names is not None:
        yield from _with_responses(session, session.execute(items.where(CampaignItem.name.in_(names))).all())
        return
    last = 0
    while page := session.execute(items.where(CampaignItem.id > last).limit(BATCH)).all():
        yield from _with_responses(session, page)
        last = page[-1].id


def _with_responses(session: Session, items: Sequence[Any]) -> Iterator[Candidates]:
    responses = select(
        Response.item_id,
        Response.text,
        Response.finish_reason,
        Response.tokens,
        Response.model,
        Response.identity,
        Response.seed,
        Response.decoding,
    )
    ids = [item.id for item in items]
    found: dict[int, list[Any]] = {}
    for row in session.execute(responses.where(Response.item_id.in_(ids)).order_by(Response.item_id, Response.number)):
        found.setdefault(row.item_id, []).append(row)
    for item in items:
        rows = found.get(item.id, [])
        read = Candidates(
            item.name,
            read_prompt(item.prompt, item.name),
            tuple(Answer(row.text, row.finish_reason, row.tokens) for row in rows),
            columns=item.columns,
            tools=item.tools,
        )
        yield read.with_origins([AnswerOrigin(row.model, row.identity, row.seed, row.decoding) for row in rows])
