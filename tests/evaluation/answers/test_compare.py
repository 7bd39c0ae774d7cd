"""The answers of runs, from Python: as they were sampled, or fresh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import palate
from palate.errors import ArtifactError
from palate.evaluation.answers.table import distinct_names


def test_samples_of_a_run_are_its_answers(finished: Path) -> None:
    (first, second) = palate.compare([finished])
    samples = [json.loads(line) for line in (finished / "samples.jsonl").read_text().splitlines()]
    last = {row["prompt"][0]["content"]: row["policy"] for row in samples}
    assert {row.prompt[0].content: row.outputs["run"] for row in (first, second)} == last


def test_fresh_answers_come_from_policy_and_reference(finished: Path, tmp_path: Path) -> None:
    rows = tmp_path / "prompts.jsonl"
    rows.write_text('{"prompt": "What was said?"}\n{"prompt": ""}\n')
    said: list[str] = []
    (row,) = palate.compare([finished], str(rows), max_new_tokens=6, on_progress=said.append)
    assert said[0].startswith("left out: 1 row without a prompt, first prompts.jsonl:2: ")
    assert row.outputs["run"] != row.reference


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a run directory"):
        palate.compare([tmp_path])


def test_names_are_as_long_as_they_must_be() -> None:
    assert distinct_names(["/a/x", "/b/y"]) == ["x", "y"]
    assert distinct_names(["/a/x", "/b/x"]) == ["a/x", "b/x"]
    assert distinct_names(["/a/x", "/a/x"]) == ["x (1)", "x (2)"]
