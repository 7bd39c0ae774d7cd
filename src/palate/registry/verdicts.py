"""Verdicts of gates on versions, and what people decided on them. Both are append-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.artifacts import json_hash, plain
from palate.errors import UsageError
from palate.registry.versions import find_row
from palate.store import Store
from palate.store.loop_tables import GateDecision, GateRun
from palate.store.registry_tables import ModelVersion

Decision: TypeAlias = Literal["sign", "force", "reject"]

_OF_THE_RUN = frozenset({"when", "inputs", "versions", "prompts_file", "prompts_files"})
"""Keys of a verdict that differ when the same results are decided on again."""


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """What a person decided: sign (a PASS), force (anything else) or reject; who, why and when."""

    action: str
    who: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class VerdictFacts:
    """A recorded verdict.

    Attributes:
        id: of the gate run.
        candidate, incumbent: names of the versions.
        outcome: PASS, FAIL or INCONCLUSIVE.
        attempt: 1 for the first.
        config_hash: of the gate.
        cycle_id: of the cycle that ran it; None for `palate loop gate`.
        verdict: the content of gate.json.
        at: when it was recorded.
        decisions: of people, in order.
    """

    id: int
    candidate: str
    incumbent: str
    outcome: str
    attempt: int
    config_hash: str
    cycle_id: int | None
    verdict: Mapping[str, Any]
    at: datetime
    decisions: tuple[DecisionFacts, ...]

    @property
    def refused(self) -> bool:
        """Whether the candidate is deployed by force only: the last decision counts, without one the outcome."""
        if self.decisions:
            return self.decisions[-1].action == "reject"
        return self.outcome != "PASS"


def verdicts(session: Session, candidate: str | None = None) -> list[VerdictFacts]:
    """All verdicts, or those on a candidate, in the order in which they were recorded."""
    runs = select(GateRun).order_by(GateRun.id)
    said = select(GateDecision).join(GateRun).order_by(GateDecision.id)
    if candidate is not None:
        runs, said = runs.where(GateRun.candidate == candidate), said.where(GateRun.candidate == candidate)
    decisions: dict[int, list[DecisionFacts]] = {}
    for row in session.scalars(said):
        decisions.setdefault(row.gate_run_id, []).append(DecisionFacts(row.action, row.who, row.reason, row.at))
    columns = [field.name for field in fields(VerdictFacts) if field.name != "decisions"]
    return [
        VerdictFacts(**{name: getattr(run, name) for name in columns}, decisions=tuple(decisions.get(run.id, ())))
        for run in session.scalars(runs)
    ]


def versions_of(session: Session, facts: Mapping[str, Any]) -> tuple[str, str] | None:
    """The versions (candidate, incumbent) of a verdict; None if the results are not of two versions of this store.

    Args:
        facts: has `versions` (names by side, what the user said), or the sides' names in the results, which are
            versions' names or folders.
    """
    named = facts.get("versions") or {}
    rows = [_version_row(session, str(named.get(side) or facts[side])) for side in ("candidate", "incumbent")]
    candidate, incumbent = rows
    return None if candidate is None or incumbent is None else (candidate.name, incumbent.name)


def _version_row(session: Session, name: str) -> ModelVersion | None:
    of = (ModelVersion.name == name) | (ModelVersion.folder == str(Path(name).resolve()))
    return session.scalars(select(ModelVersion).where(ModelVersion.complete, of).limit(1)).one_or_none()


def next_attempt(session: Session, facts: Mapping[str, Any], versions: tuple[str, str]) -> int:
    """The number of the attempt: of the recorded one on the same results, else one more than there were.

    With a sequential gate a look at more results is no new attempt.

    Args:
        facts: `config_hash`, `config` and `inputs` of the verdict to be.
    """
    before = _attempts(session, facts, versions)
    same = [run.attempt for run in before if _inputs(run.verdict) == _inputs(facts)]
    last = max((run.attempt for run in before), default=0)
    return same[0] if same else max(1, last + (not facts["config"]["sequential"]))


def _attempts(session: Session, facts: Mapping[str, Any], versions: tuple[str, str]) -> list[GateRun]:
    of_both = (GateRun.candidate == versions[0]) & (GateRun.incumbent == versions[1])
    return list(session.scalars(select(GateRun).where(of_both, GateRun.config_hash == facts["config_hash"])))


def _inputs(facts: Mapping[str, Any]) -> list[str]:
    """Hashes of the result files, wherever they are."""
    return sorted(facts["inputs"].values())


def record_verdict(store: Store, facts: Mapping[str, Any], *, cycle_id: int | None = None) -> int:
    """Record a verdict; returns the id of its run, which is the same if the verdict was recorded before.

    Raises:
        UsageError: the facts are no verdict, are not of two versions, or another verdict has used up the attempt.
    """
    facts = plain(facts)
    if facts.get("kind") != "gate":
        raise UsageError("these facts are no verdict of `palate loop gate`")
    digest = json_hash([{key: facts[key] for key in facts.keys() - _OF_THE_RUN}, _inputs(facts)])

    def write(session: Session) -> int:
        versions = versions_of(session, facts)
        if versions is None:
            raise UsageError(f"{facts['candidate']} and {facts['incumbent']} are not both versions of {store.url}")
        find_row(session, versions[0], lock=True)  # two gates at once would count the same attempt
        known = session.scalars(select(GateRun).where(GateRun.content_hash == digest)).one_or_none()
        if known is not None:
            known.cycle_id = cycle_id if known.cycle_id is None else known.cycle_id
            return known.id
        used = any(run.attempt == facts["attempt"] for run in _attempts(session, facts, versions))
        if used and not facts["config"]["sequential"]:
            raise UsageError(
                f"attempt {facts['attempt']} of {versions[0]} was decided on other results; run the gate again, with "
                "the next attempt"
            )
        run = GateRun(
            cycle_id=cycle_id,
            candidate=versions[0],
            incumbent=versions[1],
            outcome=facts["outcome"],
            attempt=facts["attempt"],
            config_hash=facts["config_hash"],
            content_hash=digest,
            verdict=facts,
            at=datetime.now(UTC),
        )
        session.add(run)
        session.flush()
        return run.id

    return store.write(write)


def decide(store: Store, gate_run_id: int, action: Decision, *, who: str, reason: str) -> None:
    """Record what a person decides on a verdict: sign a PASS, force anything else, or reject.

    Raises:
        UsageError: there is no such run or no reason, or the action does not fit the outcome.
    """

    def write(session: Session) -> None:
        run = session.get(GateRun, gate_run_id)
        if run is None:
            raise UsageError(f"there is no verdict {gate_run_id}")
        if action == "sign" and run.outcome != "PASS":
            raise UsageError(
                f"the verdict on {run.candidate} is {run.outcome}, and only a PASS is signed; palate loop force "
                f"{run.candidate} --reason '…' allows it all the same"
            )
        facts = next(one for one in verdicts(session, run.candidate) if one.id == gate_run_id)
        if action == "force" and not facts.refused:
            said = facts.decisions[-1].action if facts.decisions else "no decision"
            raise UsageError(f"{run.candidate} may be deployed without force ({run.outcome}, {said})")
        _add(session, run.id, action, who, reason)

    store.write(write)


def allow(session: Session, candidate: str, *, force: bool, who: str, reason: str) -> None:
    """Check in a transaction that a version may be deployed; one that was refused needs force, which is recorded.

    A version without a verdict may be deployed.

    Raises:
        UsageError: its last verdict is not a PASS or was rejected, and there is no force.
    """
    found = verdicts(session, candidate)
    if not found or not found[-1].refused:
        return
    last = found[-1]
    if not force:
        said = f"was rejected by {last.decisions[-1].who}" if last.decisions else f"is {last.outcome}"
        raise UsageError(
            f"the last verdict on {candidate} (of {last.at:%Y-%m-%d}) {said}; palate loop force {candidate}, or "
            "promote --force, allows it anyway; your reason is recorded"
        )
    _add(session, last.id, "force", who, reason)


def _add(session: Session, run: int, action: Decision, who: str, reason: str) -> None:
    if not reason.strip():
        raise UsageError("a decision needs a reason: --reason '…'")
    session.add(GateDecision(gate_run_id=run, action=action, who=who, reason=reason, at=datetime.now(UTC)))
    session.flush()
