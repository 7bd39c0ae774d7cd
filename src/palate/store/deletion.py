"""Deleting rows with everything that refers to them, and then from the file itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Table, and_, delete, select, tuple_, update
from sqlalchemy.orm import Session

from palate.store.engine import Store

Keys: TypeAlias = set[tuple[Any, ...]]

_CHUNK = 200


def delete_with_dependents(session: Session, table: Table, keys: Iterable[Any]) -> Counter[str]:
    """Delete rows of a table, and all rows that refer to them along the schema's foreign keys.

    SQLite overwrites what it deletes with zeros.

    Args:
        table: has one column as its primary key.

    Returns:
        Table → number of rows deleted.
    """
    if session.get_bind().dialect.name == "sqlite":
        session.connection().exec_driver_sql("PRAGMA secure_delete=ON")
    found = _closure(session, table, {(key,) for key in keys})
    counts: Counter[str] = Counter()
    for of in reversed(table.metadata.sorted_tables):
        if not found.get(of):
            continue
        chains = [key.parent for key in of.foreign_keys if key.column.table is of]
        for some in _chunks(found[of]):
            for column in chains:  # rows that supersede each other may be in several chunks
                session.execute(update(of).where(_is(of, some)).values({column: None}))
        for some in _chunks(found[of]):
            done = session.execute(delete(of).where(_is(of, some)).returning(*of.primary_key))
            counts[of.name] += len(done.all())
    return +counts


def dependents(tables: Iterable[Table]) -> set[Table]:
    """The tables whose rows go with rows of these: they themselves, and all that refer to them."""
    found = set(tables)
    for table in next(iter(found)).metadata.sorted_tables:  # a table comes after those that it refers to
        if any(key.column.table in found for key in table.foreign_keys):
            found.add(table)
    return found


def erase_deleted(store: Store, tables: Collection[str] = (), *, compact: bool = False) -> str:
    """Remove deleted rows from the database's files too; returns what is left to do, empty if nothing.

    Args:
        store: where rows were deleted.
        tables: from which; PostgreSQL rewrites these.
        compact: whether the whole file is rewritten, without the free pages of earlier deletions. Needs a moment in
            which nobody else uses the tables.
    """
    connection = store.engine.raw_connection()
    driver: Any = connection.driver_connection
    try:
        if store.is_sqlite:
            driver.execute("PRAGMA busy_timeout=2000")  # meanwhile nobody else can write
            if compact:
                driver.execute("VACUUM")
            busy = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            problem = "another process reads the database" if busy else ""
        else:
            driver.autocommit = True  # VACUUM is no part of a transaction
            for table in tables if compact else ():
                driver.execute(f'VACUUM (FULL) "{table}"')
            problem = ""
    except Exception as error:  # the drivers' own classes; the rows are deleted, and the message says what is not
        problem = " ".join(str(error).split())
    finally:
        connection.invalidate()
        connection.close()
    return f"{store.url}: its files may still hold deleted rows ({problem}); run it again" if problem else ""


def old_copies(store: Store) -> list[Path]:
    """Copies of a SQLite database from before its upgrades."""
    if not store.is_sqlite:
        return []
    file = Path(store.engine.url.database or "")
    return sorted(file.parent.glob(f"{file.name}.schema-*"))


def _closure(session: Session, table: Table, keys: Keys) -> dict[Table, Keys]:
    """Table → primary keys of the rows, and of all rows that refer to them."""
    found: dict[Table, Keys] = {table: set(keys)}
    new = [(table, keys)]
    while new:
        of, some = new.pop()
        for other in table.metadata.sorted_tables:
            for key in other.foreign_keys:
                if key.column.table is not of:
                    continue
                known = found.setdefault(other, set())
                fresh = _referring(session, other, key.parent, key.column, some) - known
                known |= fresh
                if fresh:
                    new.append((other, fresh))
    return found


def _referring(session: Session, other: Table, column: Any, referred: Any, keys: Keys) -> Keys:
    rows: Keys = set()
    for some in _chunks(keys):
        values = select(referred).where(_is(referred.table, some))
        rows |= {tuple(row) for row in session.execute(select(*other.primary_key).where(column.in_(values)))}
    return rows


def _chunks(keys: Keys) -> list[list[tuple[Any, ...]]]:
    ordered = list(keys)
    return [ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK)]


def _is(table: Table, keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
    columns = list(table.primary_key)
    if len(columns) == 1:
        return and_(columns[0].in_([key[0] for key in keys]))
    return tuple_(*columns).in_(keys)
