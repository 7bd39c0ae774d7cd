"""`palate train` on a sweep: the runs, the page, and JSON for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.main import main
from runs import config_file, values


def test_a_sweep_from_the_command_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {**values(model, tmp_path / "out", rows=8), "val_size": 4, "max_steps": 1}
    path = config_file(tmp_path / "run.yaml", given)
    assert main(["train", str(path), "--set", "sweep={pref_beta: [0.1, 0.5]}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "completed"
    assert [point["values"]["pref_beta"] for point in told["points"]] == [0.1, 0.5]
    for point in told["points"]:
        assert (Path(point["output_dir"]) / "report.html").is_file()
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert "pref_beta 0.1" in page
    again = tmp_path / "out" / "again.html"
    assert main(["report", str(tmp_path / "out"), "-o", str(again)]) == 0
    assert again.read_text(encoding="utf-8") == page
    assert capsys.readouterr().out == f"{again}\n"
    assert '<a href="pref_beta-0.1/report.html">' in page
    assert main(["report", str(tmp_path / "out"), "-o", str(tmp_path / "above.html")]) == 0
    assert '<a href="out/pref_beta-0.1/report.html">' in (tmp_path / "above.html").read_text(encoding="utf-8")


def test_a_wrong_point_is_said_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": str(tmp_path / "out")}
    path = config_file(tmp_path / "run.yaml", {**given, "sweep": {"pref_beta": [0.1, -1]}})
    assert main(["train", str(path)]) == 2
    assert "point 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
