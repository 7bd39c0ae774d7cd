"""A pipeline from the command line leaves its page, and `palate report` writes it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.main import main
from runs import config_file, values
from tiny import save_tiny


def test_a_pipeline_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(tmp_path / "model", initializer_range=0.2)
    given = {**values(model, tmp_path / "out", rows=8), "max_steps": 1, "drift_samples": 2, "drift_max_new_tokens": 4}
    given |= {"rounds": [{"seed": 1}, {"seed": 2}]}
    assert main(["train", str(config_file(tmp_path / "p.yaml", given)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert "2 rounds of dpo" in page
    assert "KL to the first model" in page
    for run in told["runs"]:
        assert f'<a href="{Path(run).name}/report.html">' in page
    assert main(["report", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"report": str(tmp_path / "out" / "report.html"), "pipeline": str(tmp_path / "out")}
