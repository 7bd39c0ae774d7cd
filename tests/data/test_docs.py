"""docs/data.md and docs/formats.md: the rules, formats and example rows that they show are what palate has."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from palate.data import FORMATS, SourceReader, open_source
from palate.data.augment import KINDS
from palate.data.curate import curate, read_rules
from palate.data.curate.funnel import funnel_table
from palate.data.formats.targets import TARGETS
from palate.records import Record

YAML = re.compile(r"```yaml[^\n]*\n(.*?)```", re.DOTALL)


def test_the_page_names_what_there_is(repository: Path) -> None:
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    names = set(re.findall(r"[a-z_]+(?:-[a-z]+)*", page))
    assert set(KINDS) <= names
    assert set(TARGETS) <= names


def test_each_example_row_has_the_format_beside_it(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([a-z-]+) \| `(\{.*\})` \| ", page, flags=re.MULTILINE))
    assert set(rows) == {form.name for form in FORMATS}
    found = {}
    for name, row in rows.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text(row + "\n", encoding="utf-8")
        kind = Record if name == "prompts" else None
        reader: SourceReader[Any] = SourceReader(open_source(str(file)), kind)
        assert list(reader), name
        found[name] = reader.report().format
    assert found == {name: name for name in rows}


def test_the_rules_of_the_worked_example_are_rules(repository: Path) -> None:
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    rules = [read_rules(yaml.safe_load(block)) for block in YAML.findall(page) if block.startswith("preset:")]
    assert [rule.name for rule in rules[-1]][-1] == "sample"
    assert len(rules) == 2
    # The table of the page lists exactly the rules of the example, in order.
    table = page[page.index("\nread   ") + 1 :].splitlines()[1 : len(rules[-1]) + 1]
    assert [line.split()[0] for line in table] == [rule.name for rule in rules[-1]]


def test_the_worked_example_comes_out_as_it_is_told(
    repository: Path, shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    rules = next(yaml.safe_load(block) for block in YAML.findall(page) if ", weak_phrases]" in block)
    raw = str(shared_data("preference/hh_harmless_base_test.jsonl.gz"))
    done = curate(raw, tmp_path / "out", read_rules(rules))
    assert "\n".join(funnel_table(done.steps).splitlines()) in page
    figure = (repository / "docs" / "figures" / "hh_funnel.svg").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "funnel.svg").read_text(encoding="utf-8") == figure
