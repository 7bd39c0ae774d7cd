"""`palate report`: the path on stdout, what is wrong on stderr, JSON for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluated import write_results
from palate.cli.main import app
from palate.cli.report import command
from palate.errors import ArtifactError


def small_run(path: Path, last_margin: float = 0.5) -> Path:
    path.mkdir()
    (path / "run.json").write_text(json.dumps({"status": "stopped", "stage": "dpo"}))
    rows = [{"step": n, "rewards/margins": last_margin * n} for n in range(9)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_it_writes_the_report_and_says_where(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0
    assert done.stdout == f"{run}/report.html\n"
    assert "Margin" in (run / "report.html").read_text()


def test_a_wrong_direction_is_said_on_stderr(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(small_run(tmp_path / "run", last_margin=-1.0))])
    assert "Not as expected in training: margin fell." in done.stderr
    assert done.stdout.count("\n") == 1


def test_machines_get_json(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    (run / "data.json").write_text("{")
    done = CliRunner().invoke(app, ["report", str(run), "--json", "-o", str(tmp_path / "r.html")])
    answer = json.loads(done.stdout)
    assert answer["report"] == str(tmp_path / "r.html")
    assert (answer["status"], answer["verdict"]) == ("stopped", "right")
    assert answer["directions"] == [{"metric": "rewards/margins", "split": "train", "verdict": "right"}]
    assert "data.json: not valid JSON" in answer["problems"][0]
    assert not (run / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(done.exception, ArtifactError)
    with pytest.raises(ArtifactError, match="no such run directory"):
        command(tmp_path / "gone")


def test_results_make_the_evaluation_and_the_card(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    write_results(tmp_path / "results")
    done = CliRunner().invoke(app, ["report", str(run), "--results", str(tmp_path / "results")])
    names = ("evaluation.html", "evaluation.md", "evaluation.json", "README.md")
    assert done.stdout.splitlines() == [str(run / name) for name in names]
    assert not (run / "report.html").exists()
    file = tmp_path / "results" / "bench-xstest.json"
    done = CliRunner().invoke(
        app, ["report", str(run), "--results", str(file), "-o", str(tmp_path / "e.html"), "--json"]
    )
    assert json.loads(done.stdout)["markdown"] == str(tmp_path / "e.md")
    assert (tmp_path / "e.md").read_text().count("XSTest") > 1
    assert "Win rate" not in (run / "README.md").read_text()


def test_a_sweep_has_no_results(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--results", str(tmp_path)])
    assert isinstance(done.exception, ArtifactError)
