"""A pipeline's page: stages in order with links, drift with intervals, whatever state it is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.artifacts import write_json
from palate.errors import ArtifactError
from palate.report.pages.pipeline import is_pipeline_folder, read_pipeline, write_pipeline_report
from palate.stats import wilson
from stage_runs import offline_rows, pipeline, write_run


def test_the_stages_are_in_order_with_links_figures_and_verdicts(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "aligned", status="running")
    assert is_pipeline_folder(folder)
    page = write_pipeline_report(folder).read_text(encoding="utf-8")
    assert "sft → dpo → ppo → grpo" in page
    assert [page.index(f'<a href="{name}/report.html">{name}</a>') for name in ("1-sft", "2-dpo", "3-ppo")] == sorted(
        page.index(f'<a href="{name}/report.html">{name}</a>') for name in ("1-sft", "2-dpo", "3-ppo")
    )
    assert "4-grpo" in page
    assert "not begun" in page
    assert "As expected on 40 held-out prompts: reward rose." in page
    assert "running" in page
    assert "Because of light." not in page, "each stage has another reference, so there is no one column for it"
    assert page.count("I think it is.") == 12


def test_drift_has_intervals_and_counts(tmp_path: Path) -> None:
    page = write_pipeline_report(pipeline(tmp_path)).read_text(encoding="utf-8")
    assert "KL to the first model: policy goes from 0 at run 0 to 9 at run 3." in page
    assert "5 (4.5 to 5.5)" in page
    low, high = wilson(32, 40).low, wilson(32, 40).high
    assert f"80.0 % ({100 * low:.1f} to {100 * high:.1f} %)" in page
    assert "40 held-out pairs" in page
    assert all(f"{name} (" in page for name in ("first model 50.0 %", "1-sft 60.0 %", "2-dpo 80.0 %"))


def test_rounds_of_one_stage(tmp_path: Path) -> None:
    write_run(tmp_path / "round-1", "dpo", offline_rows("dpo"))
    runs = [{"name": f"round-{n}", "stage": "dpo", "output_dir": str(tmp_path / f"round-{n}")} for n in (1, 2)]
    write_json(tmp_path / "pipeline.json", {"schema": 1, "status": "running", "runs": runs, "drift": {}})
    found, status = read_pipeline(tmp_path)
    assert (status, [run.contents is None for run in found]) == ("running", [False, True])
    assert "2 rounds of dpo" in write_pipeline_report(tmp_path).read_text(encoding="utf-8")


def test_a_damaged_pipeline_is_one_line(tmp_path: Path) -> None:
    write_json(tmp_path / "pipeline.json", {"runs": 3})
    with pytest.raises(ArtifactError, match="lists no runs; run the pipeline again"):
        write_pipeline_report(tmp_path)
