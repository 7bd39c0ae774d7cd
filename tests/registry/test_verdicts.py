"""Verdicts are recorded once, a retry is counted, and what people decide stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from model_folders import fake_model
from palate.errors import UsageError
from palate.registry import add, decide, find, moves, promote, record_verdict, set_canary, verdicts
from palate.registry.verdicts import next_attempt, versions_of
from palate.store import Store
from palate.store.loop_tables import GateRun


@pytest.fixture
def registry(store: Store, tmp_path: Path) -> Store:
    """v1.0 in production, v1.1."""
    for number in range(2):
        add(store, fake_model(tmp_path / f"m{number}", number), models_dir=tmp_path / "models", who="ann")
    promote(store, "v1.0", reason="first", who="ann")
    return store


def facts(outcome: str = "PASS", *, attempt: int = 1, inputs: str = "a", sequential: bool = False) -> dict[str, Any]:
    return {
        "kind": "gate",
        "outcome": outcome,
        "attempt": attempt,
        "candidate": "v1.1",
        "incumbent": "v1.0",
        "config_hash": "c" * 64,
        "config": {"sequential": sequential},
        "inputs": {"x/winrate.json": inputs * 64},
        "checks": [{"found": 0.6}],
        "when": f"2026-01-0{attempt}T00:00:00Z",
    }


def test_the_same_verdict_is_recorded_once(registry: Store) -> None:
    first = record_verdict(registry, facts())
    moved = facts() | {"inputs": {"elsewhere/winrate.json": "a" * 64}, "when": "later"}
    assert record_verdict(registry, moved, cycle_id=None) == first
    assert registry.read(lambda session: session.scalar(select(func.count()).select_from(GateRun))) == 1
    [found] = registry.read(lambda session: verdicts(session, "v1.1"))
    assert (found.candidate, found.incumbent, found.outcome, found.attempt) == ("v1.1", "v1.0", "PASS", 1)
    assert found.verdict["checks"] == [{"found": 0.6}]
    assert registry.read(lambda session: verdicts(session, "v1.0")) == []


def test_versions_are_known_by_name_and_folder(registry: Store) -> None:
    folder = str(find(registry, "v1.1").folder)

    def known(**sides: Any) -> Any:
        return registry.read(lambda session: versions_of(session, facts() | sides))

    assert known(candidate=folder) == ("v1.1", "v1.0")
    assert known(candidate="answers.jsonl") is None
    assert known(candidate="answers.jsonl", versions={"candidate": "v1.1"}) == ("v1.1", "v1.0")
    with pytest.raises(UsageError, match=r"answers\.jsonl and v1\.0 are not both versions"):
        record_verdict(registry, facts() | {"candidate": "answers.jsonl"})


def test_a_retry_is_the_next_attempt_and_cannot_take_one_twice(registry: Store) -> None:
    def attempt(**options: Any) -> int:
        return registry.read(lambda session: next_attempt(session, facts(**options), ("v1.1", "v1.0")))

    assert attempt() == 1
    record_verdict(registry, facts("INCONCLUSIVE"))
    assert attempt() == 1, "the same results"
    assert attempt(inputs="b") == 2
    with pytest.raises(UsageError, match=r"attempt 1 of v1\.1 was decided on other results"):
        record_verdict(registry, facts("PASS", inputs="b"))
    record_verdict(registry, facts("PASS", inputs="b", attempt=2))
    assert attempt(inputs="c") == 3
    assert attempt(inputs="c", sequential=True) == 2, "a further look"


def test_decisions_fit_the_outcome_and_stay(registry: Store) -> None:
    failed = record_verdict(registry, facts("FAIL"))
    passed = record_verdict(registry, facts("PASS", inputs="b", attempt=2))
    with pytest.raises(UsageError, match="only a PASS is signed"):
        decide(registry, failed, "sign", who="ann", reason="r")
    with pytest.raises(UsageError, match="may be deployed without force"):
        decide(registry, passed, "force", who="ann", reason="r")
    with pytest.raises(UsageError, match="needs a reason"):
        decide(registry, passed, "sign", who="ann", reason=" ")
    with pytest.raises(UsageError, match="there is no verdict 99"):
        decide(registry, 99, "reject", who="ann", reason="r")
    decide(registry, passed, "sign", who="ann", reason="good")
    decide(registry, passed, "reject", who="bob", reason="refuses too much")
    found = registry.read(verdicts)
    assert [[(one.action, one.who, one.reason) for one in verdict.decisions] for verdict in found] == [
        [],
        [("sign", "ann", "good"), ("reject", "bob", "refuses too much")],
    ]
    assert [verdict.refused for verdict in found] == [True, True]


@pytest.mark.parametrize(("outcome", "rejected"), [("INCONCLUSIVE", False), ("FAIL", False), ("PASS", True)])
def test_a_refused_version_is_promoted_by_force_only_which_is_recorded(
    registry: Store, outcome: str, rejected: bool
) -> None:
    run = record_verdict(registry, facts(outcome))
    if rejected:
        decide(registry, run, "reject", who="cy", reason="no")
    promote(registry, "v1.1", alias="candidate", reason="serves nobody", who="ann")
    before = moves(registry)
    for attempt in (
        lambda: promote(registry, "v1.1", reason="r", who="ann"),
        lambda: set_canary(registry, "v1.1", 0.1, who="ann", reason="r"),
    ):
        with pytest.raises(UsageError, match=r"the last verdict on v1\.1 .* palate loop force v1\.1"):
            attempt()
    assert moves(registry) == before
    promote(registry, "v1.1", reason="customer waits", who="bob", force=True)
    assert find(registry, "production").name == "v1.1"
    [found] = registry.read(verdicts)
    assert [(one.action, one.who, one.reason) for one in found.decisions][-1] == ("force", "bob", "customer waits")
    promote(registry, "v1.0", reason="back", who="bob")
    promote(registry, "v1.1", reason="again", who="bob")  # the force holds


def test_a_pass_and_no_verdict_need_no_force(registry: Store) -> None:
    record_verdict(registry, facts("INCONCLUSIVE"))
    record_verdict(registry, facts("PASS", inputs="b", attempt=2))
    promote(registry, "v1.1", reason="passed", who="ann", force=True)
    promote(registry, "v1.0", reason="no verdict", who="ann")
    assert [verdict.decisions for verdict in registry.read(verdicts)] == [(), ()]
