"""What is committed installs anywhere: pinned versions, no machine's paths, no host. A class name has one meaning."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from palate.serving.settings import ServeFields

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


def test_the_lock_file_has_every_package_with_its_pin_and_hashes(
    pins: dict[str, Version], project: dict[str, Any]
) -> None:
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    locked: dict[str, Version] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        found = re.fullmatch(
            r"([\w.-]+)(?:\[[\w,-]+\])?==(\S+)(?: ;[^\\]*)?((?: *\\\n    --hash=sha256:[0-9a-f]{64})+)", entry
        )
        assert found, f"requirements.lock: {entry[:200]}"
        locked[canonicalize_name(found[1])] = Version(found[2])
    assert {name: version for name, version in locked.items() if name in pins and version != pins[name]} == {}
    extras = project["optional-dependencies"]
    needed = [
        *project["dependencies"],
        *(line for name in ("label", "serve", "postgres", "gguf") for line in extras[name]),
    ]
    missing = {canonicalize_name(one.name) for one in map(Requirement, needed)} - set(locked)
    assert not missing, "run make lock"


def test_the_container_checks_hashes_and_runs_as_a_user(project: dict[str, Any]) -> None:
    text = (REPOSITORY / "Containerfile").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements.lock" in text
    assert text.index("\nUSER palate\n") < text.index("\nENTRYPOINT")
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    (version,) = {found[1] for base in bases if (found := re.fullmatch(r"python:(3\.\d+)-slim", base))}
    assert len(bases) == 1
    assert Version(version) in SpecifierSet(project["requires-python"])
    assert f"EXPOSE {ServeFields.model_fields['port'].default}\n" in text
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert all((REPOSITORY / name).exists() for line in copied for name in line.split())


def test_a_build_without_cuda_leaves_out_its_packages_only() -> None:
    """The command of docs/release.md, which is also that of the Containerfile."""
    page = (REPOSITORY / "docs" / "release.md").read_text(encoding="utf-8")
    command = re.search(r"^sed '(.+)' requirements.lock > cpu.lock$", page, re.MULTILINE)
    assert command
    assert f"sed -i '{command[1]}' requirements.lock" in (REPOSITORY / "Containerfile").read_text(encoding="utf-8")
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    kept = subprocess.run(["sed", command[1]], input=lock, capture_output=True, text=True, check=True).stdout
    entries = re.split(r"\n(?=\S)", lock.strip())
    cuda = [entry for entry in entries if re.match(r"(torch|triton|nvidia-|cuda-)", entry)]
    assert len(cuda) > 10
    assert kept.strip() == "\n".join(entry for entry in entries if entry not in cuda)


def test_the_files_about_the_project_agree_with_it(project: dict[str, Any]) -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    # What the schema of version 1.2.0 requires, and its types of what is there.
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert all(set(author) == {"name"} for author in citation["authors"])
    assert len(citation["keywords"]) == len(set(citation["keywords"])) > 0


def test_issue_forms_are_what_github_reads() -> None:
    for path in (REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name == "config.yml":
            assert set(form) <= {"blank_issues_enabled", "contact_links"}
            continue
        assert {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "labels", "title"}
        ids = [part["id"] for part in form["body"]]
        assert len(ids) == len(set(ids))
        for part in form["body"]:
            assert set(part) <= {"type", "id", "attributes", "validations"}
            assert part["type"] in {"textarea", "input", "dropdown", "checkboxes"}
            assert part["attributes"]["label"]
            assert set(part.get("validations", {})) <= {"required"}


FLOORS = {"starlette": "1.3.1", "transformers": "5.5.0"}
"""Older ones have known holes: host spoofing (BadHost), and code that runs from a model's config (CVE-2026-4372)."""


@pytest.mark.parametrize("name", FLOORS)
def test_versions_with_known_holes_are_excluded(name: str, pins: dict[str, Version], project: dict[str, Any]) -> None:
    lines = [*project["dependencies"], *(line for group in project["optional-dependencies"].values() for line in group)]
    found = [one.specifier for one in map(Requirement, lines) if one.name == name]
    assert found
    for specifier in found:
        (lowest,) = [Version(one.version) for one in specifier if one.operator == ">="]
        assert lowest >= Version(FLOORS[name])
    assert pins[name] >= Version(FLOORS[name])


PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "diskcache"}


def unsafe_loads(text: str) -> list[str]:
    """What a module does that may run code from a file: imports of packages that unpickle, and loaders that do."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in PICKLING]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLING:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called == "torch.load" and given.get("weights_only") != "True":
                found.append("torch.load without weights_only=True")
            if given.get("allow_pickle") == "True" or called.endswith("read_pickle"):
                found.append(f"{called} with pickles")
    return found


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from joblib import load", "import shelve as s", "torch.load(path)", "pd.read_pickle(path)",
     "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)"],
)  # fmt: skip
def test_each_unsafe_load_is_seen(text: str) -> None:
    assert unsafe_loads(text)


def test_nothing_that_palate_reads_is_unpickled() -> None:
    """Caches are JSON or safetensors. The converter reads foreign pickles with torch's `weights_only` reader."""
    found = {
        path.relative_to(REPOSITORY).as_posix(): unsafe_loads(path.read_text(encoding="utf-8"))
        for path in (REPOSITORY / "src").rglob("*.py")
    }
    # Its import is for the name of an exception.
    assert {path: what for path, what in found.items() if what} == {"src/palate/models/loading/convert.py": ["pickle"]}


def test_no_two_public_classes_have_one_name() -> None:
    found: dict[str, list[str]] = {}
    for path in sorted((REPOSITORY / "src").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path.relative_to(REPOSITORY).as_posix())
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_the_linter_refuses_pickles() -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", "src/palate/any.py", "-"]
    code = "import pickle\n\nvalue = pickle.loads(b'')\n"
    done = subprocess.run(ruff, cwd=REPOSITORY, input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "S301" in done.stdout


def test_make_and_ci_are_well_formed() -> None:
    subprocess.run(["bash", "-n", ".ci/run"], cwd=REPOSITORY, check=True)
    targets = "install demo test check bench site dist lock audit sbom release-check"
    for target in targets.split():
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
