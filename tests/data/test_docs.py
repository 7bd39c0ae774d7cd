"""What docs/data.md says is so: its rules are rules, its formats are formats, its ways to make rows exist."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import yaml

from palate.data import FORMATS
from palate.data.augment import KINDS
from palate.data.curate import curate, read_rules
from palate.data.curate.funnel import funnel_table
from palate.data.formats.targets import TARGETS


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


def test_the_worked_example_comes_out_as_it_is_told(
    repository: Path, shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n)+", page, flags=re.MULTILINE)
    rules = next(yaml.safe_load(block) for block in blocks if "weak_phrases, " in block or ", weak_phrases]" in block)
    raw = str(shared_data("preference/hh_harmless_base_test.jsonl.gz"))
    done = curate(raw, tmp_path / "out", read_rules(rules))
    table = "".join(f"    {line}\n" for line in funnel_table(done.steps).splitlines())
    assert table in page
    figure = (repository / "docs" / "figures" / "hh_funnel.svg").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "funnel.svg").read_text(encoding="utf-8") == figure
