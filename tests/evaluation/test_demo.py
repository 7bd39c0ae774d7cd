"""The demo's measurement, on a tiny run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from palate.evaluation.accuracy.evaluate import evaluate
from palate.evaluation.demo import measure
from palate.evaluation.subject import read_run


def test_the_accuracy_is_that_of_the_verb_and_is_kept_with_the_answers(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    accuracy, rows = measure(read_run(folder), on_progress=lambda _: None)
    expected = evaluate(folder).to_json()
    assert accuracy.beta == expected["beta"]
    assert accuracy.policy.estimate == expected["policy"]["estimate"]
    assert accuracy.margin.estimate == pytest.approx(expected["margin"]["estimate"], abs=1e-4)
    recorded = json.loads((folder / "accuracy.json").read_text())
    assert recorded["calibration"]["n"] == 8
    assert recorded["items"]["hashes"] == expected["items"]["hashes"]
    assert len((folder / "samples.jsonl").read_text().splitlines()) == len(rows) > 0
