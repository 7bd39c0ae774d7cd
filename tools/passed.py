"""Remembers on which files the fast tests passed, so that `make test` right after `make check` need not repeat them.

    python tools/passed.py begin    before the fast tests
    python tools/passed.py note     they have passed: good for the files of `begin`, if these are unchanged
    python tools/passed.py ask      prints pytest's selection: the slow tests if that still holds, else nothing

What counts is the content of every file of the checkout that git does not ignore, the installed packages, programs that
tests look for, and what lies in ../shared (names, sizes, times). Without git, or with options for pytest in the
environment, nothing is remembered.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGUN = ROOT / ".venv" / ".fast-tests-begun"
NOTE = ROOT / ".venv" / ".fast-tests-passed"
# A test that needs one of these skips without it.
PROGRAMS = ("chromium",)
SHARED = ROOT.parent / "shared"


def main(call: str) -> int:
    now = digest()
    if call == "begin":
        NOTE.unlink(missing_ok=True)
        BEGUN.write_text(now or "", encoding="utf-8")
    elif call == "note":
        if now and not os.environ.get("PYTEST_ADDOPTS") and BEGUN.exists() and BEGUN.read_text(encoding="utf-8") == now:
            BEGUN.rename(NOTE)
    elif now and NOTE.exists() and NOTE.read_text(encoding="utf-8") == now:
        print("make check passed the fast tests on these very files; make test ALL=1 repeats them", file=sys.stderr)
        print("-m slow")
    return 0


def digest() -> str | None:
    """SHA-256 of what the tests can see, or None where git does not say which files there are."""
    git = shutil.which("git")
    if git is None:
        return None
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        return None
    whole = hashlib.sha256(sys.version.encode())
    for name in sorted(set(listed.stdout.split(b"\0")) - {b""}):
        path = ROOT / name.decode()
        content = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"gone"
        whole.update(name + b"\0" + content)
    for line in facts():
        whole.update(line.encode())
    return whole.hexdigest()


def facts() -> Iterator[str]:
    """What is not hashed: packages by version, programs by place, the files of ../shared by size and time."""
    yield from sorted(f"{found.name}=={found.version}" for found in distributions())
    yield from (f"{program}: {shutil.which(program)}" for program in PROGRAMS)
    for path in sorted(SHARED.rglob("*")):
        if path.is_file():
            seen = path.stat()
            yield f"{path}\0{seen.st_size}\0{seen.st_mtime_ns}\0"


if __name__ == "__main__":
    if sys.argv[1:] not in (["begin"], ["note"], ["ask"]):
        sys.exit("python tools/passed.py begin|note|ask")
    sys.exit(main(sys.argv[1]))
