"""Only versions that nothing refers to are deleted."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from model_folders import as_run, fake_model
from palate.registry import add, collect, promote, resolve, versions
from palate.registry.gc import _mark
from palate.store import Store

NOW = timedelta(0)


def world(store: Store, tmp_path: Path) -> Path:
    """v1.0 ← v1.1 ← v1.2 (each trained from the one before), v1.3 alone, v1.4 once in production, v1.5 now."""
    models = tmp_path / "models"
    before: Path | str = "hub/base"
    for number in range(6):
        source = as_run(fake_model(tmp_path / f"r{number}", number), before)
        version = add(store, source, models_dir=models, who="ann").version
        before = version.folder if number < 2 else "hub/base"
    promote(store, "v1.4", reason="r", who="ann")
    promote(store, "v1.5", reason="r", who="ann")
    promote(store, "v1.1", alias="candidate", reason="r", who="ann")
    promote(store, "v1.5", alias="candidate", reason="r", who="ann")
    return models


def test_what_is_referred_to_stays(store: Store, tmp_path: Path) -> None:
    models = world(store, tmp_path)
    folders = {version.name: version.folder for version in versions(store)}
    kept = {"v1.0": "child", "v1.1": "history", "v1.4": "alias", "v1.5": "alias"}
    tried = collect(store, models, older_than=NOW, dry_run=True)
    assert [version.name for version in tried.removed] == ["v1.2", "v1.3"]
    assert all(folder.is_dir() for folder in folders.values()), "nothing changes"
    assert collect(store, models, older_than=timedelta(days=1)).removed == ()
    assert collect(store, tmp_path / "other", older_than=NOW).removed == ()
    done = collect(store, models, older_than=NOW)
    assert (done.kept, done.removed) == (kept, tried.removed)
    assert [version.name for version in versions(store)] == list(kept)
    assert {name for name, folder in folders.items() if folder.exists()} == set(kept)
    assert resolve(store, "v1.0").folder == folders["v1.0"]


def test_a_chain_that_nothing_needs_goes_as_a_whole(store: Store, tmp_path: Path) -> None:
    models = tmp_path / "models"
    base = add(store, fake_model(tmp_path / "a", 1), models_dir=models, who="ann").version
    add(store, as_run(fake_model(tmp_path / "b", 2), base.folder), models_dir=models, who="ann")
    assert [version.name for version in collect(store, models, older_than=NOW).removed] == ["v1.0", "v1.1"]
    assert versions(store) == []


def test_a_deletion_that_was_killed_is_finished_by_the_next(store: Store, tmp_path: Path) -> None:
    models = tmp_path / "models"
    version = add(store, fake_model(tmp_path / "a", 1), models_dir=models, who="ann").version
    store.write(lambda session: _mark(session, models, NOW))  # and then the process is killed
    assert versions(store) == []
    assert version.folder.is_dir()
    again = add(store, fake_model(tmp_path / "a", 1), models_dir=models, who="ann")
    assert (again.new, again.version.name, again.version.folder.is_dir()) == (True, "v1.0", True)
