"""A folder counts when its seal verifies, and is replaced as a whole or not at all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.artifacts import (
    SEAL,
    atomic_folder,
    newest_complete,
    remove_folder,
    remove_leftovers,
    seal_folder,
)
from palate.artifacts import verify_folder as verify
from palate.errors import ArtifactError


def make_checkpoint(run: Path, step: int) -> Path:
    folder = run / f"checkpoint-{step}"
    (folder / "rng").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w" * 100)
    (folder / "rng" / "rank0.json").write_text("{}")
    return folder


def flip(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"w" * 99 + b"x")


def cut(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"w" * 50)


def lose(folder: Path) -> None:
    (folder / "rng" / "rank0.json").unlink()


def unseal(folder: Path) -> None:
    (folder / SEAL).unlink()


def spoil_seal(folder: Path) -> None:
    (folder / SEAL).write_text('{"files": ')


def escape(folder: Path) -> None:
    (folder / SEAL).write_text(json.dumps({"files": {"../../etc": {"size": 1, "sha256": ""}}}))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flip, "model.safetensors has changed"),
        (cut, "model.safetensors has 50 bytes instead of 100"),
        (lose, "rng/rank0.json is missing"),
        (unseal, "complete.json is missing"),
        (spoil_seal, "complete.json is damaged"),
        (escape, "../../etc points outside the folder"),
    ],
)
def test_each_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], problem: str) -> None:
    folder = make_checkpoint(tmp_path, 1)
    seal_folder(folder)
    assert verify(folder) == []
    damage(folder)
    assert len(verify(folder)) == 1
    assert problem in verify(folder)[0]


def test_resume_takes_the_newest_that_verifies(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        seal_folder(make_checkpoint(tmp_path, step))
    make_checkpoint(tmp_path, 200)  # never sealed
    (tmp_path / "checkpoint-best").mkdir()
    flip(tmp_path / "checkpoint-100")
    path, skipped = newest_complete(tmp_path)
    assert path == tmp_path / "checkpoint-10"
    assert [p.name for p, _ in skipped] == ["checkpoint-200", "checkpoint-100"]
    assert "has changed" in skipped[1][1]


def test_none_complete(tmp_path: Path) -> None:
    assert newest_complete(tmp_path) == (None, [])


def test_an_empty_folder_is_not_sealed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nothing to seal"):
        seal_folder(tmp_path)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_folder(target) as folder:
            (folder / f"{content}.txt").write_text(content)
            assert not (target / f"{content}.txt").exists()
    assert [p.name for p in target.iterdir()] == ["new.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_failing_block_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(TypeError), atomic_folder(target) as folder:
        (folder / "a").write_text(len("new"))  # type: ignore[arg-type]
    assert (target / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_killed_between_the_two_renames_the_old_folder_comes_back(tmp_path: Path) -> None:
    """The worst moment: the old name is free and the new folder does not have it yet."""
    script = f"""
import os, signal
from pathlib import Path
from palate.artifacts import atomic_folder
renames = []
rename = Path.rename
def killing(self, to):
    if renames: os.kill(os.getpid(), signal.SIGKILL)
    renames.append(to)
    return rename(self, to)
with atomic_folder(r"{tmp_path}/model") as folder:
    (folder / "a").write_text("old")
Path.rename = killing
with atomic_folder(r"{tmp_path}/model") as folder:
    (folder / "a").write_text("new")
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "model").exists()
    remove_leftovers(tmp_path)
    assert (tmp_path / "model" / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_removed_as_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the midst of it, nothing is left under its name, and what is left goes with the leftovers."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "a").write_text("a")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("palate.artifacts.folders.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(run)
    assert not run.exists()
    assert len(list(tmp_path.iterdir())) == 1
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_folder(run)  # missing is fine
