"""The slow tests alone are run only where the fast ones passed on the very same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "passed.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "tools").mkdir(parents=True)
    (root / ".venv").mkdir()
    shutil.copy(SCRIPT, root / "tools")
    (root / ".gitignore").write_text(".venv\n")
    (root / "code.py").write_text("one = 1\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def passed(root: Path, call: str) -> str:
    done = subprocess.run([sys.executable, "tools/passed.py", call], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_is_left_out_before_the_fast_tests_passed(checkout: Path) -> None:
    assert passed(checkout, "ask") == ""
    passed(checkout, "begin")
    assert passed(checkout, "ask") == ""


def test_the_slow_ones_alone_as_long_as_no_file_changes(checkout: Path) -> None:
    passed(checkout, "begin")
    passed(checkout, "note")
    assert passed(checkout, "ask") == "-m slow"
    (checkout / "code.py").write_text("one = 2\n")
    assert passed(checkout, "ask") == ""
    (checkout / "code.py").write_text("one = 1\n")
    assert passed(checkout, "ask") == "-m slow"
    (checkout / "new.py").touch()
    assert passed(checkout, "ask") == ""


def test_other_data_counts(checkout: Path) -> None:
    passed(checkout, "begin")
    passed(checkout, "note")
    (checkout.parent / "shared" / "data").mkdir(parents=True)
    (checkout.parent / "shared" / "data" / "rows.jsonl").touch()
    assert passed(checkout, "ask") == ""


@pytest.mark.parametrize("what", ["package", "program"])
def test_what_is_installed_counts(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    passed(checkout, "begin")
    passed(checkout, "note")
    if what == "package":
        folder = tmp_path / "packages" / "new-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: new\nVersion: 1.0\n")
        monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    else:
        program = tmp_path / "programs" / "chromium"
        program.parent.mkdir()
        program.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert passed(checkout, "ask") == ""


def test_a_selection_of_the_tests_is_no_pass(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed(checkout, "begin")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k one")
    passed(checkout, "note")
    assert passed(checkout, "ask") == ""


def test_a_file_that_changed_while_they_ran_was_not_tested(checkout: Path) -> None:
    passed(checkout, "begin")
    (checkout / "code.py").write_text("one = 2\n")
    passed(checkout, "note")
    assert passed(checkout, "ask") == ""


def test_failing_tests_take_an_earlier_note_back(checkout: Path) -> None:
    passed(checkout, "begin")
    passed(checkout, "note")
    passed(checkout, "begin")
    assert passed(checkout, "ask") == ""


def test_without_git_everything_is_run(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    passed(checkout, "begin")
    passed(checkout, "note")
    assert passed(checkout, "ask") == ""
