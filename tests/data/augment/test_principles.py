"""Principles from text and YAML files."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.data.augment.principles import BUILTIN, Principle, for_kinds, read_principles
from palate.data.augment.sampled import PRINCIPLES
from palate.errors import ConfigError


def test_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("# mine\nIt is short.\n\n  It is true. \n", encoding="utf-8")
    assert read_principles(path) == (Principle("It is short."), Principle("It is true."))


def test_yaml_lists_with_and_without_kinds(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("- It is short.\n- It is true.\n")
    assert [principle.text for principle in read_principles(path)] == ["It is short.", "It is true."]
    path.write_text("accuracy: [It is true.]\nstyle: [It is short.]\n")
    assert read_principles(path) == (Principle("It is true.", "accuracy"), Principle("It is short.", "style"))


@pytest.mark.parametrize("content", ["", "accuracy: 3\n", "- 3\n", "accuracy: ['']\n"])
def test_what_is_not_a_list_of_texts_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"p\.yaml"):
        read_principles(path)


def test_a_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read.*give a file or builtin"):
        read_principles(tmp_path / "no.txt")
    (tmp_path / "e.txt").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="has no principle"):
        read_principles(tmp_path / "e.txt")


def test_kinds_select(tmp_path: Path) -> None:
    assert read_principles("builtin") == BUILTIN
    assert {principle.kind for principle in for_kinds(BUILTIN, ["accuracy"])} == {"accuracy"}
    assert for_kinds(BUILTIN, []) == BUILTIN
    with pytest.raises(ConfigError, match="no principle is of the kind humour"):
        for_kinds(BUILTIN, ["humour"])
    assert len(PRINCIPLES) == 3
