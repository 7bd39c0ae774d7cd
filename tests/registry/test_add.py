"""What becomes a version, what is refused, and what lineage it has."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from model_folders import as_run, fake_adapter, fake_model
from palate.artifacts import read_json, seal_folder, write_json
from palate.errors import ArtifactError, UsageError
from palate.evaluation.subject import read_run
from palate.registry import Version, add, find, problems, promote, versions
from palate.registry.lineage import Voter, vote_ids, voters, votes_of
from palate.store import Store
from palate.store.tables import Campaign, CampaignItem, Task, VoteRow

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def added(store: Store, source: Path, models: Path, name: str | None = None) -> Version:
    return add(store, source, models_dir=models, who="ann", name=name).version


def test_a_version_is_a_copy_with_the_hash_of_every_file(store: Store, models: Path, tmp_path: Path) -> None:
    source = fake_model(tmp_path / "m", 1.0)
    (source / "optimizer.pt").write_bytes(b"a pickle")
    first, second = added(store, source, models), added(store, fake_model(tmp_path / "n", 2.0), models)
    assert [version.name for version in versions(store)] == ["v1.0", "v1.1"]
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    hashes = {name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in names}
    assert sorted(path.name for path in first.folder.iterdir()) == names
    assert {name: facts["sha256"] for name, facts in first.files.items()} == hashes
    assert first.content_hash == hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    assert (first.kind, first.who, first.base, second.folder.parent) == ("model", "ann", None, models)
    assert problems(first) == []


def test_the_same_files_are_the_same_version(store: Store, models: Path, tmp_path: Path) -> None:
    source = fake_model(tmp_path / "m")
    added(store, source, models, "v2.0")
    again = add(store, fake_model(tmp_path / "copy"), models_dir=models, who="bob")
    assert (again.new, again.version.name, again.version.who) == (False, "v2.0", "ann")
    with pytest.raises(UsageError, match=r"the same files are version v2\.0 already"):
        added(store, source, models, "v3.0")
    with pytest.raises(UsageError, match=r"there is a version v2\.0 already, with other files"):
        added(store, fake_model(tmp_path / "n", 1.0), models, "v2.0")
    assert added(store, fake_model(tmp_path / "n", 1.0), models).name == "v2.1"


def test_a_damaged_version_is_restored_by_its_source(store: Store, models: Path, tmp_path: Path) -> None:
    source = fake_model(tmp_path / "m")
    first = added(store, source, models)
    (first.folder / "model.safetensors").write_bytes(b"changed")
    (first.folder / "more.py").write_text("print(1)")
    again = add(store, source, models_dir=tmp_path / "other", who="bob")
    assert (again.new, again.restored, again.version.folder) == (False, True, first.folder)
    assert problems(first) == []
    shutil.rmtree(first.folder)
    assert add(store, source, models_dir=models, who="bob").restored
    assert problems(first) == []
    assert not add(store, source, models_dir=models, who="bob").restored


@pytest.mark.parametrize("name", ["production", "candidate", "previous"])
def test_the_names_of_aliases_are_kept_free(sqlite_store: Store, models: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is an alias; name the version otherwise"):
        added(sqlite_store, fake_model(tmp_path / "m"), models, name)


def test_a_name_of_an_alias_or_of_a_path_is_refused(store: Store, models: Path, tmp_path: Path) -> None:
    source = fake_model(tmp_path / "m")
    for name in ("../v1", "a/b", "", ".hidden", "v1\0", "v" * 65, "ü"):
        with pytest.raises(UsageError, match="a name has letters, digits, dots"):
            added(store, source, models, name)
    added(store, source, models)
    promote(store, "v1.0", alias="stable", reason="r", who="ann")
    with pytest.raises(UsageError, match="stable is an alias"):
        added(store, fake_model(tmp_path / "n", 1.0), models, "stable")
    assert [path.name for path in models.iterdir() if not path.name.startswith(".")] == [
        find(store, "v1.0").folder.name
    ]


def test_what_runs_code_or_is_not_whole_is_refused(sqlite_store: Store, models: Path, tmp_path: Path) -> None:
    def refused(folder: Path, match: str) -> None:
        with pytest.raises(ArtifactError, match=match):
            added(sqlite_store, folder, models)

    refused(tmp_path / "none", "no such folder")
    pickled = fake_model(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    refused(pickled, r"no weights \(\*\.safetensors\); `palate model convert`")
    code = fake_model(tmp_path / "code")
    write_json(code / "config.json", {"auto_map": {"AutoModel": "modeling.Evil"}})
    refused(code, "auto_map wants to run the model's own code")
    cut = fake_model(tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-3])
    refused(cut, "its weights are damaged")
    shards = fake_model(tmp_path / "shards")
    write_json(shards / "model.safetensors.index.json", {"weight_map": {"w": "model-2.safetensors"}})
    refused(shards, r"names model-2\.safetensors, which is missing")
    linked = fake_model(tmp_path / "linked")
    (tmp_path / "secret").write_text("s")
    (linked / "tokenizer.json").unlink()
    (linked / "tokenizer.json").symlink_to(tmp_path / "secret")
    refused(linked, "is a link to a file outside its folder")
    running = as_run(fake_model(tmp_path / "running"), "base", status="running")
    refused(running, "the run is running")
    assert versions(sqlite_store) == []


def test_a_snapshot_of_the_hubs_cache_is_copied(sqlite_store: Store, models: Path, tmp_path: Path) -> None:
    snapshot = fake_model(tmp_path / "models--o--n" / "snapshots" / "abc")
    blob = tmp_path / "models--o--n" / "blobs" / "1"
    blob.parent.mkdir()
    (snapshot / "model.safetensors").rename(blob)
    (snapshot / "model.safetensors").symlink_to(blob)
    copy = added(sqlite_store, snapshot, models).folder / "model.safetensors"
    assert copy.read_bytes() == blob.read_bytes()
    assert not copy.is_symlink()


def test_lineage_goes_down_to_the_votes(store: Store, models: Path, tmp_path: Path) -> None:
    def votes(session: object) -> None:
        session.add(Campaign(id=1, name="c", created=NOW))  # type: ignore[attr-defined]
        session.flush()  # type: ignore[attr-defined]
        session.add(CampaignItem(id=1, campaign_id=1, name="i", prompt=[], content_hash="h", created=NOW))  # type: ignore[attr-defined]
        session.flush()  # type: ignore[attr-defined]
        row = {"item_id": 1, "campaign_id": 1, "left": 0, "right": 1, "outcome": "left", "who": "w", "kind": "person"}
        session.add(VoteRow(id="vote-1", at=NOW, shown="as_is", **row))  # type: ignore[attr-defined]

    store.write(votes)
    base = added(store, fake_model(tmp_path / "base"), models)
    run = as_run(fake_adapter(tmp_path / "run", "elsewhere"), base.folder, votes=("vote-1", "vote-2"))
    write_json(run / "accuracy.json", {"n": 1})
    version = added(store, run, models)
    assert (version.kind, version.base, version.name) == ("adapter", "v1.0", "v1.1")
    lineage = version.lineage
    assert lineage["run"] == {"stage": "dpo", "objective": "sigmoid"}
    assert lineage["data"][0]["files"] == {"pairs.jsonl": "a" * 64}
    assert lineage["votes"]["sha256"] == hashlib.sha256(b'["vote-1", "vote-2"]').hexdigest()
    assert lineage["evaluation"] == {"accuracy.json": hashlib.sha256((run / "accuracy.json").read_bytes()).hexdigest()}
    assert vote_ids(version.folder) == ["vote-1", "vote-2"]
    known = store.read(lambda session: votes_of(session, vote_ids(version.folder)))
    assert {name: (one["item"], one["answers"], one["outcome"]) for name, one in known.items()} == {
        "vote-1": ("i", [0, 1], "left")
    }
    assert set(lineage["base"]["files"]) == {
        str(base.folder / name) for name in ("config.json", "model.safetensors", "tokenizer.json")
    }


def test_a_change_of_an_adapters_base_is_found(sqlite_store: Store, models: Path, tmp_path: Path) -> None:
    base = fake_model(tmp_path / "base")
    version = added(sqlite_store, fake_adapter(tmp_path / "adapter", base), models)
    assert read_json(version.folder / "adapter_config.json")["base_model_name_or_path"] == str(base)
    fake_model(base, 5.0)
    (line,) = problems(version)
    assert line.endswith("model.safetensors, a file of its base, has changed since the version was added")


def test_paths_in_a_copied_run_are_absolute(
    sqlite_store: Store, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_model(tmp_path / "base")
    version = added(sqlite_store, as_run(fake_model(tmp_path / "run", 1.0), "base"), models)
    assert read_json(version.folder / "run.json")["config"]["model_name_or_path"] == str(tmp_path / "base")
    again = add(sqlite_store, version.folder, models_dir=models, who="bob")
    assert (again.new, again.version.name) == (False, "v1.0")


def test_a_failed_copy_leaves_no_version(
    sqlite_store: Store, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source = fake_model(tmp_path / "m")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(ArtifactError, match="the disk is full"):
            added(sqlite_store, source, models, "v1.0")
    assert versions(sqlite_store) == []
    assert [path.name for path in models.iterdir()] == [".lock"]
    assert added(sqlite_store, source, models, "v1.0").name == "v1.0"


def test_a_checkpoint_of_a_stopped_run_is_a_version(sqlite_store: Store, models: Path, tmp_path: Path) -> None:
    run = as_run(fake_model(tmp_path / "run"), "hub/base", votes=("vote-1",), status="stopped")
    checkpoint = fake_model(run / "checkpoint-3", 1.0)
    with pytest.raises(ArtifactError, match=r"not a complete checkpoint: .*the folder was not finished"):
        added(sqlite_store, checkpoint, models)
    seal_folder(checkpoint)
    version = added(sqlite_store, checkpoint, models)
    assert version.lineage["run"]["checkpoint"] == 3
    assert vote_ids(version.folder) == ["vote-1"]
    assert read_run(version.folder).policy.model == str(version.folder)


def test_who_cast_votes_and_where_their_answers_are_shown(store: Store) -> None:
    def write(session: Session) -> None:
        campaign = Campaign(name="own", created=NOW)
        session.add(campaign)
        session.flush()
        item = CampaignItem(campaign_id=campaign.id, name="i", prompt=[], content_hash="h", created=NOW)
        session.add(item)
        session.flush()
        task = Task(campaign_id=campaign.id, item_id=item.id, left=0, right=1, wanted=1, open=0, priority=0.0)
        session.add(task)
        row = {"item_id": item.id, "campaign_id": campaign.id, "outcome": "left", "at": NOW, "shown": "as_is"}
        for number, (who, kind) in enumerate([("ann", "person"), ("j", "judge"), ("bob", "person"), ("ann", "person")]):
            right = 2 if who == "bob" else 1
            session.add(VoteRow(id=f"v{number}", left=0, right=right, who=who, kind=kind, **row))
        session.flush()
        numbers.append(task.id)

    numbers: list[int] = []
    store.write(write)
    ids = ["v0", "v1", "v2", "v3", "elsewhere", *(f"none-{number}" for number in range(600))]
    found = store.read(lambda session: voters(session, ids))
    assert found == [Voter("ann", "person", 2), Voter("bob", "person", 1), Voter("j", "judge", 1)]
    known = store.read(lambda session: votes_of(session, ids))
    assert {id: vote["task"] for id, vote in known.items()} == {
        **{key: {"campaign": "own", "number": numbers[-1]} for key in ("v0", "v1", "v3")},
        "v2": None,  # on a pair without a task
    }
