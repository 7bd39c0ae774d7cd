"""A page is filled from records; what is missing or broken is one line, and nothing is half written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import publish
import pytest

PAGE = "# Results\n\n<!-- table one -->\nold\n<!-- end one -->\n\nWords of a person.\n"


class Experiment:
    """Stands for the module of an experiment."""

    @staticmethod
    def tables(result: dict[str, Any]) -> dict[str, str]:
        return {"one": f"| n |\n| --- |\n| {result['cells'][0]['n']} |"}

    @staticmethod
    def figures(result: dict[str, Any]) -> dict[str, str]:
        return {"one.svg": f"<svg>{result['cells'][0]['n']}</svg>"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(publish, "experiment", lambda name: Experiment)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "experiments.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "sentiment.json").write_text(json.dumps({"cells": [{"n": 7}]}), encoding="utf-8")
    return tmp_path


def published(place: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    given = ["--results", str(place / "results"), "--docs", str(place / "docs"), *options]
    monkeypatch.setattr(sys, "argv", ["publish.py", *given])
    return publish.main()


def test_tables_and_figures_are_written_and_the_words_stay(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert published(place, monkeypatch, "--check") == 1
    assert (place / "docs" / "experiments.md").read_text(encoding="utf-8") == PAGE
    assert published(place, monkeypatch) == 0
    page = (place / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert page == PAGE.replace("old\n", "\n| n |\n| --- |\n| 7 |\n\n")
    assert (place / "docs" / "figures" / "one.svg").read_text(encoding="utf-8") == "<svg>7</svg>"
    assert published(place, monkeypatch, "--check") == 0


@pytest.mark.parametrize(
    ("record", "page", "told"),
    [
        ('{"cells": [', PAGE, "sentiment.json: not valid JSON"),
        ('{"cells": []}', PAGE, "sentiment.json: is not what the experiment records now"),
        ("[]", PAGE, "python experiments/run.py sentiment"),
        (None, PAGE, "results: holds no record"),
        ('{"cells": [{"n": 7}]}', "# Empty\n", "experiments.md has no place for table one"),
        ('{"cells": [{"n": 7}]}', None, "experiments.md: no such file"),
    ],
)
def test_what_is_missing_or_broken_is_one_line(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record: str | None,
    page: str | None,
    told: str,
) -> None:
    for path, text in ((place / "results" / "sentiment.json", record), (place / "docs" / "experiments.md", page)):
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
    assert published(place, monkeypatch) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]
    assert not (place / "docs" / "figures").exists()
