"""The tables of the model registry. Versions and moves of aliases are append-only; only `aliases` changes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from palate.store.personal import AccountName, PlainJson, PlainText
from palate.store.tables import Base


class ModelVersion(Base):
    """A model or adapter whose files are in a folder of their own and never change."""

    __tablename__ = "model_versions"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[PlainText] = mapped_column(String(100), unique=True)
    content_hash: Mapped[PlainText] = mapped_column(String(64), unique=True)
    """SHA-256 of the files' names and hashes."""
    kind: Mapped[PlainText] = mapped_column(String(12))
    """model or adapter."""
    folder: Mapped[PlainText]
    """Absolute path."""
    files: Mapped[PlainJson]
    """Name → size and SHA-256."""
    base_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT"), index=True)
    """The version that it was trained from, if the registry has it."""
    lineage: Mapped[PlainJson]
    note: Mapped[PlainText] = mapped_column(default="")
    who: Mapped[AccountName] = mapped_column(String(100))
    complete: Mapped[bool] = mapped_column(default=False)
    """False while the files are written or deleted: such a version cannot be found, and is cleaned up after a kill."""
    created: Mapped[datetime]


class Alias(Base):
    """A name that moves between versions."""

    __tablename__ = "aliases"

    name: Mapped[PlainText] = mapped_column(String(100), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT"), index=True)
    moved: Mapped[datetime]


class AliasMove(Base):
    """A move of an alias: who moved it, why, and where it was. Append-only."""

    __tablename__ = "alias_moves"

    number: Mapped[int] = mapped_column(primary_key=True)
    """Ascending in the order of the moves."""
    alias: Mapped[PlainText] = mapped_column(String(100), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT"), index=True)
    before_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT"), index=True)
    """The version that the alias named before; None for its first move."""
    action: Mapped[PlainText] = mapped_column(String(12))
    """promote or rollback."""
    who: Mapped[AccountName] = mapped_column(String(100))
    reason: Mapped[PlainText]
    at: Mapped[datetime]
