"""Deletes interactions, everything that was made of them, and the rows of files that were written from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import String, cast, select
from sqlalchemy.orm import Session

from palate.errors import PalateError
from palate.feedback.candidates import read_prompt
from palate.feedback.judges.interview import sha256
from palate.feedback.judges.render import clean, conversation_text
from palate.feedback.queue.slots import update_slots
from palate.registry.lineage import register_export, trained_versions
from palate.serving.recording.exported_files import clean_export, clean_file, has_one, is_exported, texts_in
from palate.serving.recording.listing import read_interactions
from palate.serving.recording.recorder import Recorder
from palate.store import Store
from palate.store.deletion import delete_with_dependents, erase_deleted, old_copies
from palate.store.serving_tables import ApiKey, Deletion, Interaction, InteractionExport
from palate.store.tables import Base, Campaign, CampaignItem, Judgement, VoteRow

REACHED = tuple(Base.metadata.tables[name] for name in ("items", "judgements", "interactions"))
"""Tables in which rows of a person are looked for; those that refer to them follow along the foreign keys."""

_ITEMS, _JUDGEMENTS, _INTERACTIONS = REACHED
_BATCH = 500
_SHORTEST = 12
"""Characters of a text by which a row of a file without lineage is recognised."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was deleted.

    Attributes:
        rows: table → rows.
        files: file → rows.
        remaining: what could not be deleted, a line each with what to do.
        trained: versions of the registry whose data may have had some of it. Weights cannot be taken back.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    remaining: Sequence[str] = ()
    trained: Sequence[str] = ()


@dataclass(slots=True)
class _Found:
    """What is to be deleted.

    Attributes:
        ids: of interactions.
        items: ids of campaign items that were made of them.
        votes: ids of votes on these.
        judgements: keys of judges' replies on the items' prompts.
        texts: what the person wrote.
    """

    ids: list[str] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    votes: list[str] = field(default_factory=list)
    judgements: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)


def erase(
    store: Store,
    now: datetime,
    *,
    ids: Collection[str] = (),
    user: str | None = None,
    files: Sequence[Path] = (),
    with_copies: bool = False,
) -> Erased:
    """Delete interactions, by id or of a person, from the store, from exported files, and from files that are named.

    Deleted are their answers and feedback; items of labelling campaigns that were made of them, with responses, tasks
    and votes; judges' replies on their prompts; rows of every folder that `palate data from-interactions` wrote.

    Args:
        now: the current time.
        ids: of interactions, also of such that are deleted already.
        user: hash of a person.
        files: more JSON Lines files; a row goes if it names one of the interactions or has a text of the person.
        with_copies: also delete the copies of the database that upgrades have left beside it.

    Raises:
        StoreError: the database cannot be read or written; files may be done already. Running it again is safe.
    """
    found = store.read(lambda session: _find(session, ids, user))
    marks = {*found.ids, *ids, *([user] if user else [])}
    cleaned, remaining, hashes = _clean_files(store, marks, found.texts, files)
    trained = store.read(lambda session: trained_versions(session, hashes, found.votes, {*found.ids, *ids}))

    def work(session: Session) -> Counter[str]:
        again = _find(session, ids, user)  # what came meanwhile
        campaigns = select(Campaign).join(CampaignItem).where(CampaignItem.id.in_(again.items)).distinct()
        touched = list(session.scalars(campaigns))
        counts = delete_with_dependents(session, _ITEMS, again.items)
        counts += delete_with_dependents(session, _JUDGEMENTS, again.judgements)
        counts += delete_with_dependents(session, _INTERACTIONS, again.ids)
        for campaign in touched:
            update_slots(session, campaign)
        if counts or cleaned:
            kind = "forget" if user else "delete"
            session.add(Deletion(kind=kind, at=now, counts={**counts, "rows of files": sum(cleaned.values())}))
        return counts

    counts = store.write(work)
    left = erase_deleted(store, list(counts), compact=True)
    for copy in old_copies(store):
        if with_copies:
            copy.unlink(missing_ok=True)
        else:
            remaining.append(f"{copy}: a copy from before an upgrade may have it; delete it (--with-copies)")
    return Erased(dict(counts), cleaned, [*remaining, *([left] if left else [])], trained)


def is_known(store: Store, ids: Collection[str]) -> bool:
    """Whether one of these interactions is recorded, or something that was made of it is there."""
    found = store.read(lambda session: _find(session, ids, None))
    if found.ids or found.items:
        return True
    exports = store.read(lambda session: list(session.scalars(select(InteractionExport.folder))))
    return any(is_exported(Path(folder), set(ids)) for folder in exports if Path(folder).is_dir())


def purge(store: Store, now: datetime, default_days: int | None = None) -> int:
    """Delete the interactions that are older than their key's retention; returns their number.

    Args:
        now: the current time.
        default_days: for interactions without a key, and keys that have no retention; None keeps these.
    """
    keys: list[tuple[int | None, int | None]] = [(None, None)]
    keys += store.read(lambda session: [(key.id, key.retention_days) for key in session.scalars(select(ApiKey))])
    total = 0
    for key, own_days in keys:
        days = default_days if own_days is None else own_days
        if days is None:
            continue
        oldest = now - timedelta(days=days)
        of_key = Interaction.key_id.is_(None) if key is None else Interaction.key_id == key
        wanted = select(Interaction.id).where(of_key, Interaction.created < oldest).limit(_BATCH)

        def work(session: Session, wanted: Any = wanted) -> int:
            ids = list(session.scalars(wanted))
            counts = delete_with_dependents(session, _INTERACTIONS, ids)
            if ids:
                session.add(Deletion(kind="purge", at=now, counts=dict(counts)))
            return len(ids)

        while deleted := store.write(work):
            total += deleted
    if total:
        erase_deleted(store)
    return total


def maintain(recorder: Recorder, now: datetime) -> list[str]:
    """End the rows of dead processes, and delete those older than their key allows; a line for each that changed some.

    Raises:
        StoreError: the database cannot be read or written.
    """
    lines = []
    if given_up := recorder.give_up():
        lines.append(f"{given_up:,} interactions are partial: their process ended before they did")
    if purged := purge(recorder.store, now):
        lines.append(f"{purged:,} interactions deleted: they are older than their key's retention")
    return lines


def _find(session: Session, ids: Collection[str], user: str | None) -> _Found:
    found = _Found()
    names = list(ids)
    for start in range(0, len(names), _BATCH):
        some = names[start : start + _BATCH]
        found.ids += session.scalars(select(Interaction.id).where(Interaction.id.in_(some)))
    if user is not None:
        found.ids += session.scalars(select(Interaction.id).where(Interaction.user == user))
    for recorded in read_interactions(session, found.ids):
        prompt = recorded.row.prompt or []
        said: list[Any] = [prompt] if isinstance(prompt, str) else [turn for turn in prompt if turn["role"] == "user"]
        said += [text for row in recorded.feedback for text in (row.comment, row.edit)]
        found.texts |= {text for text in texts_in(said) if len(text) >= _SHORTEST}
    items = _items(session, {*found.ids, *names, *([user] if user else [])})
    found.items = [number for number, _, _ in items]
    prompts = [conversation_text(read_prompt(prompt, f"item {number}"), tools) for number, prompt, tools in items]
    hashes = list({sha256(clean(prompt)) for prompt in prompts})
    judged = Judgement.request[("contents", "prompt")].as_string()
    for start in range(0, len(items), _BATCH):
        on_items = VoteRow.item_id.in_(found.items[start : start + _BATCH])
        found.votes += session.scalars(select(VoteRow.id).where(on_items))
        on_prompts = judged.in_(hashes[start : start + _BATCH])
        found.judgements += session.scalars(select(Judgement.key).where(on_prompts))
    return found


def _items(session: Session, marks: Collection[str]) -> list[tuple[int, list[Any], str | None]]:
    """Id, prompt and tools of the items in whose columns, at any depth, is one of the marks.

    The interactions that they are made of may be purged, and other commands may have sampled answers for their prompts.
    """
    made = select(CampaignItem.id, CampaignItem.prompt, CampaignItem.tools, CampaignItem.columns).where(
        cast(CampaignItem.columns, String).contains("lineage")
    )
    rows = session.execute(made.execution_options(yield_per=_BATCH))
    return [(number, prompt, tools) for number, prompt, tools, columns in rows if has_one(columns, marks)]


def _clean_files(
    store: Store, marks: Collection[str], texts: Collection[str], files: Sequence[Path]
) -> tuple[dict[str, int], list[str], list[str]]:
    """File → rows removed; what could not be done; hashes of the data files that had some rows."""
    cleaned: dict[str, int] = {}
    remaining, hashes = [], []
    for export in store.read(lambda session: list(session.scalars(select(InteractionExport)))):
        folder = Path(export.folder)
        if not folder.is_dir():
            remaining.append(f"{folder}: was written from interactions and is not there now; delete its copies")
            hashes += export.hashes
            continue
        try:
            removed, current = clean_export(folder, marks)
        except (PalateError, OSError) as error:
            remaining.append(f"{folder}: {error}")
            continue
        if removed:
            cleaned |= removed
            hashes += export.hashes
            store.write(partial(register_export, folder=export.folder, hashes=current))
    for path in files:
        try:
            count = clean_file(path, {*marks, *texts})
        except (PalateError, OSError) as error:
            remaining.append(f"{path}: {error}")
        else:
            cleaned |= {str(path): count} if count else {}
    return cleaned, remaining, list(dict.fromkeys(hashes))
