"""Shell completion: the script that palate prints for bash completes verbs and options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
eval "$(_PALATE_COMPLETE=source_bash palate)"
COMP_WORDS=({words}) COMP_CWORD={last}
"$(complete -p palate | sed 's/.* -F \\([^ ]*\\) .*/\\1/')" palate
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered", "left_out"),
    [
        ("palate ev", {"eval"}, {"doctor", "train"}),
        ("palate eval ''", {"accuracy", "winrate"}, {"train", "--help"}),
        ("palate train --", {"--set", "--json"}, {"--judge"}),
    ],
)
def test_bash_completes_verbs_and_options(words: str, offered: set[str], left_out: set[str]) -> None:
    script = SCRIPT.format(words=words, last=len(words.split()) - 1)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = set(done.stdout.split())
    assert found >= offered
    assert not found & left_out
