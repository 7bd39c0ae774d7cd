"""Aliases move in one transaction, with history; rollback gives production what previous names."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from model_folders import fake_model
from palate.errors import ArtifactError, UsageError
from palate.registry import add, find, moves, promote, resolve, rollback
from palate.store import Store
from palate.store.registry_tables import ModelVersion


@pytest.fixture
def three(store: Store, tmp_path: Path) -> Store:
    for number in range(3):
        add(store, fake_model(tmp_path / f"m{number}", number), models_dir=tmp_path / "models", who="ann")
    return store


def named(store: Store, *aliases: str) -> list[str]:
    return [find(store, alias).name for alias in aliases]


def test_promotions_and_a_rollback_leave_their_history(three: Store) -> None:
    promote(three, "v1.0", reason="first", who="ann")
    with pytest.raises(UsageError, match="production has named one version at most"):
        rollback(three, reason="r", who="ann")
    promote(three, "v1.1", alias="candidate", reason="try", who="ann")
    done = promote(three, "candidate", reason="better", who="bob")
    assert [(move.alias, move.before, move.version) for move in done] == [
        ("production", "v1.0", "v1.1"),
        ("previous", None, "v1.0"),
    ]
    assert promote(three, "v1.1", reason="again", who="bob") == []
    rollback(three, reason="worse", who="cy")
    assert named(three, "production", "previous", "candidate") == ["v1.0", "v1.0", "v1.1"]
    with pytest.raises(UsageError, match=r"production is previous \(v1\.0\) already"):
        rollback(three, reason="r", who="cy")
    assert [(m.alias, m.before, m.version, m.action, m.who, m.reason) for m in moves(three)] == [
        ("production", None, "v1.0", "promote", "ann", "first"),
        ("candidate", None, "v1.1", "promote", "ann", "try"),
        ("production", "v1.0", "v1.1", "promote", "bob", "better"),
        ("previous", None, "v1.0", "promote", "bob", "better"),
        ("production", "v1.1", "v1.0", "rollback", "cy", "worse"),
    ]
    assert moves(three, "v1.2") == []


@pytest.mark.parametrize(
    ("name", "alias", "reason", "match"),
    [
        ("v9.9", "production", "r", r"there is no version or alias v9\.9; there are v1\.0, v1\.1, v1\.2"),
        ("v1.0", "production", " ", "a move needs a reason"),
        ("v1.0", "previous", "r", "previous moves when production does"),
        ("v1.0", "v1.1", "r", r"v1\.1 is a version"),
        ("v1.0", "../x", "r", "a name has letters"),
    ],
)
def test_what_cannot_move_is_refused(three: Store, name: str, alias: str, reason: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        promote(three, name, alias=alias, reason=reason, who="ann")
    assert moves(three) == []


def test_a_damaged_version_is_neither_promoted_nor_rolled_back_to_nor_loaded(three: Store) -> None:
    promote(three, "v1.0", reason="r", who="ann")
    promote(three, "v1.1", reason="r", who="ann")
    weights = find(three, "v1.0").folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for attempt in (
        lambda: rollback(three, reason="r", who="ann"),
        lambda: promote(three, "v1.0", reason="r", who="ann"),
        lambda: resolve(three, "previous").folder,
    ):
        with pytest.raises(
            ArtifactError, match=r"v1\.0 .* damaged .*model\.safetensors has changed since it was written"
        ):
            attempt()
    assert named(three, "production", "previous") == ["v1.1", "v1.0"]
    folder = resolve(three, "production").folder
    (folder / "modeling.py").write_text("print(1)")
    with pytest.raises(ArtifactError, match=r"modeling\.py was not there"):
        resolve(three, "production")


def test_the_database_itself_keeps_what_an_alias_names(three: Store) -> None:
    promote(three, "v1.0", reason="r", who="ann")
    with pytest.raises(IntegrityError):
        three.write(lambda session: session.execute(delete(ModelVersion).where(ModelVersion.name == "v1.0")))
    assert named(three, "production") == ["v1.0"]


def test_a_move_from_another_version_than_expected_is_refused(three: Store) -> None:
    promote(three, "v1.0", reason="first", who="ann")
    with pytest.raises(UsageError, match=r"production names v1\.0 and not v1\.2; somebody has moved it"):
        promote(three, "v1.1", reason="better", who="palate", expect="v1.2")
    assert find(three, "production").name == "v1.0"
    assert promote(three, "v1.1", reason="better", who="palate", expect="v1.0")[0].before == "v1.0"
