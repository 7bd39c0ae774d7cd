"""Who may write into a run directory, and when it says `completed`."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import SoftFileLock, Timeout

from palate.artifacts import RunDir, write_json
from palate.errors import ArtifactError


def finished_run(path: Path) -> RunDir:
    run = RunDir.claim(path)
    run.metrics.write_text('{"step": 1}\n')
    run.data.write_text("{}")
    (path / "model.safetensors").write_bytes(b"w")
    (path / "config.json").write_text("{}")
    run.finish("completed", seconds=1.5)
    return run


def test_a_new_directory_says_running_at_once(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path / "out" / "run")
    assert run.read()["status"] == "running"
    assert run.read()["started"].endswith("Z")
    run.release()


def test_an_old_run_is_refused_unless_told_what_to_do_with_it(tmp_path: Path) -> None:
    finished_run(tmp_path)
    with pytest.raises(ArtifactError, match=r"already has a run \(completed\); .*resume_from_checkpoint.*overwrite"):
        RunDir.claim(tmp_path)
    assert RunDir(tmp_path).read()["status"] == "completed"


def test_resume_keeps_everything(tmp_path: Path) -> None:
    finished_run(tmp_path)
    run = RunDir.claim(tmp_path, resume=True)
    assert run.read()["status"] == "running"
    assert run.read()["seconds"] == 1.5
    assert run.metrics.read_text() == '{"step": 1}\n'
    run.release()


def test_overwrite_deletes_what_a_run_writes_and_nothing_else(tmp_path: Path) -> None:
    finished_run(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "compare.html").write_text("of the old run")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (tmp_path / "runs").symlink_to(outside)
    run = RunDir.claim(tmp_path, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "notes.txt", "run.json"]
    assert (outside / "kept").read_text() == "kept"
    assert "seconds" not in run.read()
    run.release()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_files_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "README.md").write_text("a project")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"has files that are not from a run \(README\.md, config\.json\)"):
        RunDir.claim(tmp_path, overwrite=overwrite)
    assert (tmp_path / "README.md").read_text() == "a project"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "config.json"]


def test_resume_in_an_empty_directory_starts_anew(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path, resume=True)
    assert run.read()["status"] == "running"
    run.release()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(ArtifactError, match="in the way"):
        RunDir.claim(tmp_path / "out")


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("metrics.jsonl", "metrics.jsonl"),
        ("data.json", "data.json"),
        ("model.safetensors", "*.safetensors"),
        ("config.json", "config.json|adapter_config.json"),
    ],
)
def test_completed_only_when_everything_else_is_there(tmp_path: Path, gone: str, named: str) -> None:
    finished_run(tmp_path)
    run = RunDir.claim(tmp_path, resume=True)
    (tmp_path / gone).unlink()
    with pytest.raises(ArtifactError, match=re.escape(f"cannot be completed, missing {named}")):
        run.finish("completed")
    assert run.read()["status"] == "running"
    assert run.finish("stopped")["status"] == "stopped"


def test_an_adapter_config_stands_for_a_config(tmp_path: Path) -> None:
    finished_run(tmp_path)
    (tmp_path / "config.json").rename(tmp_path / "adapter_config.json")
    assert RunDir.claim(tmp_path, resume=True).finish("completed")["status"] == "completed"


def test_update_keeps_the_rest_and_cannot_set_the_status(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path)
    assert run.update(peak_memory_bytes=5)["status"] == "running"
    assert json.loads(run.run_json.read_text())["peak_memory_bytes"] == 5
    with pytest.raises(ValueError, match="finish"):
        run.update(status="completed")
    run.release()


def test_two_processes_cannot_write_to_one_run(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path)
    script = (
        "from palate.artifacts import RunDir\nfrom palate.errors import ArtifactError\n"
        f"try:\n    RunDir.claim(r'{tmp_path}', resume=True)\n    print('taken')\n"
        "except ArtifactError as error:\n    print(error)\n"
    )

    def claim_elsewhere() -> str:
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    assert "another process is writing to this run" in claim_elsewhere()
    run.finish("stopped")
    assert claim_elsewhere() == "taken"


def test_a_disk_without_locks_has_a_file_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lock on every system: only the kind of it depends on what the disk can do."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("filelock._unix.lock_fd_nonblocking", refuse)
    run = RunDir.claim(tmp_path)
    assert (tmp_path / ".lock-soft").exists()
    with pytest.raises(Timeout):
        SoftFileLock(tmp_path / ".lock-soft", timeout=0).acquire()
    run.finish("stopped")
    assert not (tmp_path / ".lock-soft").exists()


def test_a_lock_alone_is_no_run(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    run = RunDir.claim(tmp_path)
    assert run.read()["status"] == "running"
    run.release()


def test_a_crashed_run_can_be_claimed_again_in_the_same_process(tmp_path: Path) -> None:
    RunDir.claim(tmp_path)
    again = RunDir.claim(tmp_path, resume=True)
    assert again.read()["status"] == "running"
    again.release()


def test_open_wants_a_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such run directory"):
        RunDir.open(tmp_path / "gone")
    with pytest.raises(ArtifactError, match=r"it has no run\.json"):
        RunDir.open(tmp_path)
    write_json(tmp_path / "run.json", [1])
    with pytest.raises(ArtifactError, match="expected a JSON object, found list"):
        RunDir.open(tmp_path).read()


def test_a_run_of_a_newer_palate_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    finished_run(tmp_path)
    facts = RunDir.open(tmp_path).read()
    assert facts["format"] == 1
    write_json(tmp_path / "run.json", {**facts, "format": 2})
    before = (tmp_path / "run.json").read_bytes()
    line = r"run\.json: the run is of format 2, this palate reads 1; upgrade palate$"
    with pytest.raises(ArtifactError, match=line):
        RunDir.open(tmp_path).read()
    with pytest.raises(ArtifactError, match=line):
        RunDir.claim(tmp_path, resume=True)
    assert (tmp_path / "run.json").read_bytes() == before
    del facts["format"]  # of a run from before there were versions
    write_json(tmp_path / "run.json", facts)
    assert RunDir.open(tmp_path).read()["status"] == "completed"


def test_check_finds_out_early_that_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="file: is a file; choose another output_dir"):
        RunDir.check(tmp_path / "file" / "below" / "run")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the superuser may write everywhere
    with pytest.raises(ArtifactError, match="cannot be written to"):
        RunDir.check(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


def test_check_refuses_like_claim_and_touches_nothing(tmp_path: Path) -> None:
    RunDir.check(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="is a file"):
        RunDir.check(tmp_path / "file")
    with pytest.raises(ArtifactError, match="not from a run"):
        RunDir.check(tmp_path, overwrite=True)
    finished_run(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(ArtifactError, match="already has a run"):
        RunDir.check(tmp_path / "run")
    RunDir.check(tmp_path / "run", overwrite=True)
    RunDir.check(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
