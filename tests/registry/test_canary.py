"""A canary is one row after another; a promotion ends it; a cycle overrules nobody."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from model_folders import fake_model
from palate.errors import ArtifactError, UsageError
from palate.registry import add, canary_of, collect, find, promote, rollback, set_canary
from palate.registry.canary import CanaryState, canaries, canary_moves
from palate.store import Store


@pytest.fixture
def registry(store: Store, tmp_path: Path) -> Store:
    """v1.0, v1.1, v1.2; production is v1.0."""
    for number in range(3):
        add(store, fake_model(tmp_path / f"m{number}", number), models_dir=tmp_path / "models", who="ann")
    promote(store, "v1.0", reason="first", who="ann")
    return store


def running(store: Store) -> CanaryState | None:
    return store.read(canary_of)


def shares(store: Store, version: str) -> list[tuple[float, str]]:
    return [(move.share, move.who) for move in store.read(lambda session: canary_moves(session, version))]


def test_a_canary_grows_and_ends_and_leaves_its_history(registry: Store) -> None:
    assert running(registry) is None
    first = set_canary(registry, "v1.1", 0.1, who="ann", reason="try")
    assert (first.version, first.share, first.who, first.reason) == ("v1.1", 0.1, "ann", "try")
    assert first.content_hash == find(registry, "v1.1").content_hash
    grown = set_canary(registry, "v1.1", 0.3, who="bob", reason="more")
    assert (grown.share, grown.since, grown.who) == (0.3, first.since, "bob"), "it answers since its first share"
    assert set_canary(registry, "v1.1", 0.3, who="cy", reason="again") == grown, "the same share is not set again"
    assert registry.read(canaries) == [grown] == [running(registry)]
    other = set_canary(registry, "v1.2", 0.2, who="ann", reason="another one")
    assert (other.version, other.since > grown.since) == ("v1.2", True)
    with pytest.raises(UsageError, match=r"v1\.1 is not the canary of production"):
        set_canary(registry, "v1.1", 0.0, who="ann", reason="r")
    assert set_canary(registry, "v1.2", 0.0, who="ann", reason="bad").share == 0
    assert running(registry) is None
    assert set_canary(registry, "v1.2", 0.0, who="cy", reason="twice").who == "ann"
    assert shares(registry, "v1.1") == [(0.1, "ann"), (0.3, "bob")]
    assert shares(registry, "v1.2") == [(0.2, "ann"), (0.0, "ann")]


def test_a_promotion_and_a_rollback_end_the_canary(registry: Store) -> None:
    set_canary(registry, "v1.1", 0.1, who="ann", reason="try")
    promote(registry, "v1.1", alias="candidate", reason="r", who="ann")
    assert running(registry) is not None, "of another alias"
    promote(registry, "v1.1", reason="better", who="bob")
    assert running(registry) is None
    set_canary(registry, "v1.2", 0.2, who="ann", reason="try")
    assert promote(registry, "v1.1", reason="no canary", who="ann") == []
    assert running(registry) is None, "also where the alias is there already"
    set_canary(registry, "v1.2", 0.1, who="ann", reason="try")
    rollback(registry, reason="worse", who="cy")
    assert running(registry) is None
    assert shares(registry, "v1.2")[-1] == (0.0, "cy")
    assert [move.reason for move in registry.read(lambda session: canary_moves(session, "v1.1"))] == [
        "try",
        "promote of v1.1: better",
    ]


@pytest.mark.parametrize(
    ("version", "share", "alias", "reason", "match"),
    [
        ("v9.9", 0.1, "production", "r", r"there is no version or alias v9\.9"),
        ("v1.1", 1.5, "production", "r", "from 0 to 1"),
        ("v1.1", float("nan"), "production", "r", "from 0 to 1"),
        ("v1.1", 0.1, "production", " ", "needs a reason"),
        ("v1.1", 0.1, "previous", "r", "serves nobody"),
        ("v1.1", 0.1, "beta", "r", "beta names no version yet"),
        ("v1.0", 0.1, "production", "r", "is the version of production"),
        ("v1.1", 0.0, "production", "r", "is not the canary of production"),
    ],
)
def test_what_cannot_be_a_canary(
    registry: Store, version: str, share: float, alias: str, reason: str, match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        set_canary(registry, version, share, alias=alias, who="ann", reason=reason)
    assert running(registry) is None


def test_a_damaged_version_is_no_canary_and_a_damaged_canary_can_be_ended(registry: Store) -> None:
    set_canary(registry, "v1.1", 0.1, who="ann", reason="try")
    for version in ("v1.1", "v1.2"):
        (find(registry, version).folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="damaged"):
        set_canary(registry, "v1.2", 0.1, who="ann", reason="try")
    assert set_canary(registry, "v1.1", 0.0, who="ann", reason="broken").share == 0


def test_a_cycle_starts_and_ends_its_own_and_overrules_nobody(registry: Store) -> None:
    def palate(version: str, share: float) -> float:
        return set_canary(registry, version, share, who="palate", reason="cycle 1").share

    assert palate("v1.1", 0.1) == 0.1
    with pytest.raises(UsageError, match="only a person raises its share"):
        palate("v1.1", 0.2)
    assert palate("v1.1", 0.0) == 0
    with pytest.raises(UsageError, match=r"v1\.1 was ended by palate"):
        palate("v1.1", 0.1)
    assert palate("v1.2", 0.1) == 0.1, "the next cycle's"
    set_canary(registry, "v1.2", 0.05, who="ann", reason="carefully")
    for version, share in (("v1.2", 0.1), ("v1.2", 0.01), ("v1.1", 0.1)):
        with pytest.raises(UsageError, match="was set by ann; only a person moves it"):
            palate(version, share)
    assert palate("v1.2", 0.0) == 0, "to 0 it may"


def test_a_version_that_was_a_canary_is_not_collected(registry: Store, tmp_path: Path) -> None:
    set_canary(registry, "v1.1", 0.1, who="ann", reason="try")
    set_canary(registry, "v1.1", 0.0, who="ann", reason="bad")
    done = collect(registry, tmp_path / "models", older_than=timedelta(0))
    assert done.kept == {"v1.0": "alias", "v1.1": "canary"}
    assert [version.name for version in done.removed] == ["v1.2"]
