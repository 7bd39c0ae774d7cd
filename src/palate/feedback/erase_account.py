"""Takes a person who labels out of the store and of files: a pseudonym for the name, and no reasons in their words.

Votes stay, and stay those of one person: agreement and quality are computed as before.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Table, delete, or_, select, update
from sqlalchemy.orm import Session

from palate.artifacts import iter_jsonl, read_json, write_json
from palate.data.formats.writers import write_rows
from palate.errors import DataError, PalateError, UsageError
from palate.store import Store
from palate.store.deletion import erase_deleted, old_copies
from palate.store.personal import inventory
from palate.store.tables import Base, LoginSession, User, VoteRow


@dataclass(frozen=True, slots=True)
class ErasedAccount:
    """What was changed.

    Attributes:
        pseudonym: replaces the name.
        rows: table → rows.
        files: file → rows; of a `.json` file 1.
        remaining: what could not be changed, a line each with what to do.
    """

    pseudonym: str
    rows: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    remaining: Sequence[str] = ()


def erase_account(store: Store, name: str, *, files: Sequence[Path] = (), with_copies: bool = False) -> ErasedAccount:
    """Replace a person's name in every column of the schema that holds names of accounts, and in files.

    The account loses its password, is disabled and logged out; reasons that the person wrote beside votes are emptied.

    Args:
        name: of an account, or of a voter in imported files.
        files: `.jsonl` and `.json` files with votes or judge cards.
        with_copies: also delete the copies of the database that upgrades have left beside it.

    Raises:
        UsageError: nothing has this name.
        StoreError: the database cannot be read or written. Running it again is safe.
    """
    pseudonym = f"erased-{secrets.token_hex(4)}"
    rows = store.write(lambda session: _replace_in_store(session, name, pseudonym))
    changed: dict[str, int] = {}
    remaining: list[str] = []
    for path in files:
        try:
            count = _replace_in_file(path, name, pseudonym)
        except (PalateError, OSError) as error:
            remaining.append(f"{path}: {error}")
        else:
            changed |= {str(path): count} if count else {}
    if not rows and not changed and not remaining:
        raise UsageError(f"{name}: no account, vote or decision has this name; palate label users list shows accounts")
    left = erase_deleted(store, list(rows), compact=True)
    for copy in old_copies(store):
        if with_copies:
            copy.unlink(missing_ok=True)
        else:
            remaining.append(f"{copy}: a copy from before an upgrade may have the name; delete it (--with-copies)")
    return ErasedAccount(pseudonym, dict(rows), changed, [*remaining, *([left] if left else [])])


def _replace_in_store(session: Session, name: str, pseudonym: str) -> Counter[str]:
    """Table → number of rows changed."""
    user = session.scalars(select(User).where(User.name == name)).one_or_none()
    counts: Counter[str] = Counter()
    if user is not None:
        user.active, user.password_hash = False, ""
        session.execute(delete(LoginSession).where(LoginSession.user_id == user.id))
    own = or_(VoteRow.who == name, VoteRow.user_id == user.id) if user is not None else VoteRow.who == name
    session.execute(update(VoteRow).where(own, VoteRow.reason != "").values(reason=""))
    for table, columns in inventory(Base.metadata).items():
        for column, kind in columns.items():
            if kind == "account":
                counts[table] += _replace_in_column(session, Base.metadata.tables[table], column, name, pseudonym)
    return +counts


def _replace_in_column(session: Session, table: Table, column: str, name: str, pseudonym: str) -> int:
    where = table.c[column]
    if not isinstance(where.type, JSON):
        changed = update(table).where(where == name).values({column: pseudonym}).returning(*table.primary_key)
        return len(session.execute(changed).all())
    count = 0
    for *key, value in session.execute(select(*table.primary_key, where)).all():
        new = _replaced(value, name, pseudonym)
        if new != value:
            this = [part == given for part, given in zip(table.primary_key, key, strict=True)]
            session.execute(update(table).where(*this).values({column: new}))
            count += 1
    return count


def _replace_in_file(path: Path, name: str, pseudonym: str) -> int:
    """The number of rows changed."""
    if path.suffix == ".json":
        value = read_json(path)
        new = _replaced(value, name, pseudonym)
        if new != value:
            write_json(path, new)
        return int(new != value)
    if path.suffix != ".jsonl":
        raise DataError("only .jsonl and .json files can be changed; write it again")
    rows = list(iter_jsonl(path))
    changed = [_replaced(row, name, pseudonym) for row in rows]
    if changed != rows:
        write_rows(path, changed)
    return sum(new != row for new, row in zip(changed, rows, strict=True))


def _replaced(value: Any, name: str, pseudonym: str) -> Any:
    """A JSON value with the pseudonym where a text or a key is the name; the reason of the person's vote is empty."""
    if isinstance(value, Mapping):
        new = {pseudonym if key == name else key: _replaced(inner, name, pseudonym) for key, inner in value.items()}
        return new | {"reason": ""} if value.get("who") == name and "reason" in value else new
    if isinstance(value, list):
        return [_replaced(inner, name, pseudonym) for inner in value]
    return pseudonym if value == name else value
