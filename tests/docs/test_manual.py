"""The manual is complete: every verb has its page, every page is in the index, every link leads somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

import palate
from palate.cli.main import VERBS

REPOSITORY = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def committed(pattern: str) -> list[Path]:
    """Files of the checkout that git knows or would add, by glob."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [REPOSITORY / line for line in listed.stdout.splitlines() if (REPOSITORY / line).is_file()]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page(verb: str) -> None:
    page = REPOSITORY / "docs" / f"{verb}.md"
    assert page.exists(), f"write docs/{verb}.md"
    assert f"palate {verb}" in page.read_text(encoding="utf-8")


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(LINK.findall(index))
    pages = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"README.md"}
    assert pages <= linked, f"add to docs/README.md: {sorted(pages - linked)}"


def test_every_relative_link_leads_somewhere() -> None:
    dead = []
    for page in committed("*.md"):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                dead.append(f"{page.relative_to(REPOSITORY)}: {target}")
    assert dead == []


def test_every_test_that_the_page_on_security_names_exists() -> None:
    text = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) > 50
    folder = REPOSITORY / "tests"
    gone = [
        f"{file}::{test}"
        for file, test in named
        if not (folder / file).is_file() or f"def {test}(" not in (folder / file).read_text(encoding="utf-8")
    ]
    assert gone == []


def test_the_page_on_python_is_current() -> None:
    spec = importlib.util.spec_from_file_location("python_page", REPOSITORY / "tools" / "python_page.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
    assert page == tool.page(), "docs/python.md is out of date: run `make docs`"
    assert all(f"\n## {name}\n" in page for name in palate.__all__ if not name.startswith("_"))


def test_the_two_commands_of_the_readme_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"(?:^|`)make (\w+)", readme, re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target} is in the README, not in the Makefile"


def test_presets_named_in_the_readme_exist() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    presets = {path.stem for path in (REPOSITORY / "configs").glob("*.yaml")}
    (sentence,) = re.findall(r"recipes to start from:\s+([^.]*)\.", readme)
    assert set(re.findall(r"`(\w+)`", sentence)) <= presets
