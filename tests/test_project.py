"""What is committed installs anywhere: pinned versions, no machine's paths, no host to install from."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    found = {}
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, separator, version = line.partition("==")
            assert separator, f"constraints.txt: {line} is not pinned"
            found[canonicalize_name(name)] = Version(version)
    return found


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_direct_dependency_is_pinned_within_its_bounds(pins: dict[str, Version], project: dict[str, Any]) -> None:
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        if requirement.name == "palate":
            continue
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"constraints.txt has no {requirement.name}"
        assert pin in requirement.specifier, f"{requirement.name}=={pin} is outside {requirement.specifier}"


def test_torch_is_pinned_without_a_build(pins: dict[str, Version]) -> None:
    assert pins["torch"] == Version("2.13.0")
    assert not any(version.local for version in pins.values())
    assert not [name for name in pins if name.startswith(("nvidia-", "triton"))]


def test_make_and_ci_are_well_formed() -> None:
    subprocess.run(["bash", "-n", ".ci/run"], cwd=REPOSITORY, check=True)
    for target in ("install", "demo", "test", "check", "bench"):
        done = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in script if line.startswith("make ")] == ["make check", "make test"]


def test_nothing_committed_names_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    path_of_one_machine = re.compile(r"(?<![\w.:/-])/(?:root|home|work|srv|opt)/\w")
    found = []
    for name in listed.stdout.splitlines():
        path = REPOSITORY / name
        if path == Path(__file__) or path.suffix in {".png", ".gz", ".zst", ".parquet"} or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if path_of_one_machine.search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert found == []
