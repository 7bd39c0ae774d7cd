"""Campaigns for the tests of the labelling pages: items whose answers say which of them is the better one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.feedback.campaigns.campaign import CampaignSchema, create_campaign, make_tasks
from palate.store import Store
from palate.store.tables import CampaignItem, Response, VoteRow
from palate.web.app import create_app
from sites import Clock, Site, make_site

CAMPAIGN = "answers"
MODELS = ("zephyr-7b", "quokka-3b")
"""Names that no page may show."""


@dataclass
class RunningClock(Clock):
    """A clock that runs, and can be moved."""

    started: float = field(default_factory=time.monotonic)

    def __call__(self) -> datetime:
        return self.now + timedelta(seconds=time.monotonic() - self.started)


def label_site(
    folder: Path,
    *,
    items: int = 3,
    schema: CampaignSchema | None = None,
    answers: Sequence[tuple[str, str]] = (),
    prompts: Sequence[str] = (),
    local: bool = False,
    **settings: Any,
) -> Site:
    """A site with one campaign of `items` items; `answers` are the two answers of each, by default good and bad."""
    prompts = prompts or [f"Question {number}?" for number in range(items)]
    answers = answers or [(good(number), bad(number)) for number in range(items)]
    made = make_site(folder, local=local, **settings)
    clock = RunningClock()
    chosen = replace(made.settings, clock=clock)
    site = Site(create_app(made.store, chosen), made.store, chosen, clock, made.people)
    site.store.write(lambda session: _campaign(session, schema or CampaignSchema(), prompts, answers, clock()))
    return site


def good(item: int) -> str:
    return f"The **good** answer to question {item}."


def bad(item: int) -> str:
    return f"A bad answer to question {item}."


def _campaign(
    session: Session,
    schema: CampaignSchema,
    prompts: Sequence[str],
    answers: Sequence[tuple[str, str]],
    now: datetime,
) -> None:
    campaign = create_campaign(session, CAMPAIGN, schema, "admin")
    for number, (prompt, texts) in enumerate(zip(prompts, answers, strict=True)):
        item = CampaignItem(
            campaign_id=campaign.id,
            name=f"prompts.jsonl:{number}",
            prompt=[{"role": "user", "content": prompt}],
            tools=None,
            columns={},
            content_hash=f"{number:064}",
            created=now,
        )
        session.add(item)
        session.flush()
        for index, text in enumerate(texts):
            session.add(
                Response(
                    item_id=item.id,
                    number=index,
                    text=text,
                    model=MODELS[index],
                    content_hash=f"{number:032}{index:032}",
                )
            )
    session.flush()
    make_tasks(session, campaign)


def vote_rows(store: Store) -> list[VoteRow]:
    """The votes of the store that no other vote supersedes, oldest first."""
    rows = store.read(lambda session: list(session.scalars(select(VoteRow).order_by(VoteRow.number))))
    replaced = {row.supersedes for row in rows}
    return [row for row in rows if row.id not in replaced]


def item_names(store: Store) -> dict[int, str]:
    """Item id → name."""
    return store.read(lambda session: {row.id: row.name for row in session.scalars(select(CampaignItem))})
