"""A file has one writer: a second process is refused in one line, and a killed one leaves no lock behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from palate.artifacts import sole_writer
from palate.errors import ArtifactError

HOLD = """
import sys, time
from palate.artifacts import sole_writer
with sole_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "votes.jsonl"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError, match=r"votes\.jsonl: another palate process writes"), sole_writer(path):
            pass
        with sole_writer(tmp_path / "new" / "other.jsonl"):
            pass
        other.kill()
    with sole_writer(path), pytest.raises(ArtifactError), sole_writer(path):
        pass
    with sole_writer(path):
        assert not path.exists(), "the file itself is the writer's"
