"""What docs/data.md says is so: its rules are rules, its formats are formats, its ways to make rows exist."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from palate.data import FORMATS
from palate.data.augment import KINDS
from palate.data.curate import read_rules
from palate.data.targets import TARGETS


def test_the_page_names_what_there_is(repository: Path) -> None:
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    names = set(re.findall(r"[a-z_]+(?:-[a-z]+)*", page))
    assert {form.name for form in FORMATS if form.name not in ("prompts", "labelled-messages")} <= names
    assert set(KINDS) <= names
    assert set(TARGETS) <= names


def test_the_rules_of_the_worked_example_are_rules(repository: Path) -> None:
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n)+", page, flags=re.MULTILINE)
    rules = [read_rules(yaml.safe_load(block)) for block in blocks if block.lstrip().startswith("preset:")]
    assert [rule.name for rule in rules[-1]][-1] == "sample"
    assert len(rules) == 2
    # The table of the page lists exactly the rules of the example, in order.
    table = page[page.index("    read   ") :].splitlines()[1 : len(rules[-1]) + 1]
    assert [line.split()[0] for line in table] == [rule.name for rule in rules[-1]]
