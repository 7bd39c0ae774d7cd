"""Atomic writes, strict JSON, and a failing disk told in one line."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from palate.artifacts import plain, read_json, write_bytes, write_errors, write_json, write_text
from palate.errors import ArtifactError


def test_a_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "first, and long")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "a.txt", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"a\.txt: the disk is full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        assert write_text(tmp_path / "a", "x").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_json_is_strict_and_takes_what_runs_hold(tmp_path: Path) -> None:
    value = {
        "nan": float("nan"),
        "inf": [float("-inf"), 1.5],
        "array": np.arange(2, dtype=np.int64),
        "scalar": np.float32(0.5),
        "path": Path("a/b"),
        "set": {"b", "a"},
        "text": "naïve 中文 \ud800",
        7: None,
    }
    path = write_json(tmp_path / "v.json", value)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "nan": None,
        "inf": [None, 1.5],
        "array": [0, 1],
        "scalar": 0.5,
        "path": "a/b",
        "set": ["a", "b"],
        "text": "naïve 中文 \ufffd",
        "7": None,
    }


def test_plain_unwraps_a_torch_like_scalar() -> None:
    class Scalar:
        def tolist(self) -> float:
            return float("inf")

    assert plain({"loss": Scalar()}) == {"loss": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"a": 1,\n "b": }', "not valid JSON at line 2"), (b"\xff\xfe{}x", "not valid JSON"), (b"", "not valid JSON")],
)
def test_broken_json_is_one_line_with_the_path(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")


def test_a_file_where_a_folder_must_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="in the way"):
        write_text(tmp_path / "file" / "below.txt", "y")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_permission_and_read_only_disks(code: int) -> None:
    expected = pytest.raises(ArtifactError, match=r"^/out/run: cannot be written \(.+\); grant write permission")
    with expected, write_errors("/out/run"):
        raise OSError(code, os.strerror(code), "/out/run/model.safetensors")


@pytest.mark.parametrize(
    "message",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "Error while serializing: I/O error: File too large (os error 27)",
        "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534",
        "PytorchStreamWriter failed writing file data/0: file write failed",
    ],
)
def test_libraries_that_hide_a_full_disk(message: str) -> None:
    with pytest.raises(ArtifactError, match="the disk is full"), write_errors("/out"):
        raise RuntimeError(message)


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ValueError, match="a bug"), write_errors("/out"):
        raise ValueError("a bug")


def test_one_limit_three_writers(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the real libraries fail as on a full disk; each must end as our one line."""
    script = textwrap.dedent(
        f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        import numpy as np
        from safetensors.numpy import save_file
        from palate.artifacts import JsonlWriter, atomic_folder, write_bytes, write_errors
        from palate.errors import ArtifactError

        def safetensors():
            with atomic_folder(r"{tmp_path}/model") as folder:
                save_file({{"w": np.zeros(100_000)}}, folder / "model.safetensors")

        def jsonl():
            with JsonlWriter(r"{tmp_path}/m.jsonl") as rows:
                for step in range(2_000):
                    rows.write({{"step": step, "loss": 0.6931}})

        for write in (safetensors, jsonl, lambda: write_bytes(r"{tmp_path}/b", b"0" * 100_000)):
            try:
                write()
            except ArtifactError as error:
                assert "the disk is full" in str(error) and chr(10) not in str(error), error
                print("one line")
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:3] == ["one line"] * 3, done.stderr
    assert not list(tmp_path.glob("*model*"))
    assert not (tmp_path / "b").exists()


def test_bytes_are_kept_as_they_are(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / "b", b"\x00\xff\r\n").read_bytes() == b"\x00\xff\r\n"
