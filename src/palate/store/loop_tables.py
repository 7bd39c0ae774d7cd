"""The tables of the weekly cycle: cycles and their steps, verdicts of gates with what people said to them, canaries."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from palate.store.personal import AccountName, PlainJson, PlainText
from palate.store.tables import Base


class Cycle(Base):
    """One pass from collecting to a decision. A loop has at most one that is not finished."""

    __tablename__ = "cycles"
    __table_args__ = (UniqueConstraint("loop", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    loop: Mapped[PlainText] = mapped_column(String(100))
    """Name of the loop."""
    number: Mapped[int]
    """Of the loop's cycles, from 1."""
    folder: Mapped[PlainText]
    """Absolute path of its files."""
    config_hash: Mapped[PlainText] = mapped_column(String(64))
    config: Mapped[PlainJson]
    """The loop's config when the cycle began, with the gate's: a later edit counts from the next cycle."""
    incumbent: Mapped[PlainText] = mapped_column(String(100))
    """Version that served when the cycle began, and `incumbent_hash`, its content hash."""
    incumbent_hash: Mapped[PlainText] = mapped_column(String(64))
    candidate: Mapped[PlainText | None] = mapped_column(String(100))
    """Version that the cycle made, and its content hash; None before it is trained."""
    candidate_hash: Mapped[PlainText | None] = mapped_column(String(64))
    outcome: Mapped[PlainText | None] = mapped_column(String(20))
    """deployed, rejected or abandoned; None while the cycle goes on."""
    started: Mapped[datetime]
    finished: Mapped[datetime | None]


class CycleStep(Base):
    """A step of a cycle: done when its output is on disk and this row is committed."""

    __tablename__ = "cycle_steps"

    cycle_id: Mapped[int] = mapped_column(ForeignKey("cycles.id"), primary_key=True)
    name: Mapped[PlainText] = mapped_column(String(20), primary_key=True)
    """collect, sample, candidates, annotate, pairs, train, evaluate, gate, canary, deploy or debug."""
    state: Mapped[PlainText] = mapped_column(String(12))
    """running, waiting, failed, done or skipped; a step without a row has not begun."""
    input_hash: Mapped[PlainText] = mapped_column(String(64))
    """Of everything that determines the output; the same hash is not computed again."""
    output: Mapped[PlainJson] = mapped_column(default=dict)
    """Figures, and `files`: path in the cycle's folder → SHA-256."""
    waits_for: Mapped[PlainText] = mapped_column(default="")
    """What or whom it waits for, as a sentence; until when in `until`."""
    until: Mapped[datetime | None]
    error: Mapped[PlainText] = mapped_column(default="")
    attempts: Mapped[int] = mapped_column(default=0)
    started: Mapped[datetime]
    finished: Mapped[datetime | None]


class GateRun(Base):
    """A verdict of a gate. Append-only."""

    __tablename__ = "gate_runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    cycle_id: Mapped[int | None] = mapped_column(ForeignKey("cycles.id"), index=True)
    candidate: Mapped[PlainText] = mapped_column(String(100), index=True)
    """Versions by name; the verdict outlives their files."""
    incumbent: Mapped[PlainText] = mapped_column(String(100))
    outcome: Mapped[PlainText] = mapped_column(String(12))
    """PASS, FAIL or INCONCLUSIVE."""
    attempt: Mapped[int] = mapped_column(default=1)
    config_hash: Mapped[PlainText] = mapped_column(String(64))
    content_hash: Mapped[PlainText] = mapped_column(String(64), unique=True)
    """SHA-256 of the verdict."""
    verdict: Mapped[PlainJson]
    """As gate.json of `palate loop gate`."""
    at: Mapped[datetime]


class GateDecision(Base):
    """What a person said to a verdict. Append-only."""

    __tablename__ = "gate_decisions"

    id: Mapped[int] = mapped_column(primary_key=True)
    gate_run_id: Mapped[int] = mapped_column(ForeignKey("gate_runs.id", ondelete="RESTRICT"), index=True)
    action: Mapped[PlainText] = mapped_column(String(12))
    """sign (a PASS), force (anything else) or reject."""
    who: Mapped[AccountName] = mapped_column(String(100))
    reason: Mapped[PlainText]
    at: Mapped[datetime]


class CanaryMove(Base):
    """A change of the share of people whose requests a version answers in place of an alias's. Append-only.

    The last row of an alias holds; a share of 0 means that there is no canary.
    """

    __tablename__ = "canary_moves"

    number: Mapped[int] = mapped_column(primary_key=True)
    alias: Mapped[PlainText] = mapped_column(String(100), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT"), index=True)
    share: Mapped[float]
    """In [0, 1]."""
    who: Mapped[AccountName] = mapped_column(String(100))
    """`palate` for the cycle, which may only set 0 where a person did not allow more in the config."""
    reason: Mapped[PlainText]
    at: Mapped[datetime]
