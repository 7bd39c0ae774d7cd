"""Pipelines and sweeps while they run: which run goes on, time left, and what a killed process leaves."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from palate.artifacts import read_json, sole_writer, write_json
from palate.web.trainings.progress import Progress
from run_files import write_sweep
from sites import make_site
from stage_runs import pipeline


def page(folder: Path, path: str) -> str:
    """The text of a page over the runs in a folder, and its links."""
    site = make_site(folder, local=True, runs=(folder / "runs",))
    found = site.client().get(path, headers={"Accept": "text/html"})
    site.store.close()
    assert found.status_code == 200, found.text
    text = re.sub(r"<a href=\"([^\"]*)\"[^>]*>", r"[\1] ", found.text)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def long_ago(folder: Path) -> None:
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - 3600,) * 2)


def test_a_sweep_shows_its_run_the_time_left_and_the_best_so_far(tmp_path: Path) -> None:
    """Two thirds of a minute for each 20 steps: 50 steps take 100 s. The finished run took 241.7 s."""
    write_sweep(tmp_path / "runs" / "sweep")
    shown = page(tmp_path, "/runs")
    assert "running sweep of 3 runs run 2 of 3, about 6 min left: pref_beta-0.1" in shown
    assert "Best held-out accuracy 92.5 % (86.4 to 96.0 %) run 1: pref_beta 0.05" in shown
    shown = page(tmp_path, "/runs/sweep")
    assert "Run 2 of 3, about 6 min left : [/runs/sweep/pref_beta-0.1] pref_beta-0.1 running" in shown
    assert "Step 30 of 80, about 2 min left" in shown
    assert "[/runs/sweep/pref_beta-0.05] 1 " in shown
    assert "2 · running" in shown, "sweep.json still says that it has not begun"
    assert "3 · not begun" in shown
    assert "[/runs/sweep] sweep sweep" in page(tmp_path, "/runs/sweep/pref_beta-0.1")


@pytest.mark.parametrize("held", [True, False])
def test_a_killed_pipeline_is_interrupted_and_a_slow_one_is_not(tmp_path: Path, held: bool) -> None:
    folder = pipeline(tmp_path / "runs" / "aligned", status="running")
    with sole_writer(folder / "pipeline.json"):
        long_ago(folder)
        if held:
            shown = page(tmp_path, "/runs/aligned")
            assert "has written nothing for 60 minutes" in shown
            assert "interrupted" not in shown
    if not held:
        shown = page(tmp_path, "/runs/aligned")
        assert "No process on this machine writes to this pipeline any more: it was interrupted." in shown
        assert "The palate train command of the pipeline continues it: finished runs are kept" in shown
        assert "pipeline of 4 runs stage 4 of 4: 4-grpo" in page(tmp_path, "/runs")
        assert "interrupted" in page(tmp_path, "/runs")
    assert "Stage 4 of 4 : 4-grpo not begun" in shown
    assert "[/runs/aligned/1-sft] 1-sft" in shown


def test_a_failed_pipeline_says_why(tmp_path: Path) -> None:
    state = pipeline(tmp_path / "runs" / "aligned") / "pipeline.json"
    write_json(state, {**read_json(state), "status": "failed", "error": "4-grpo: no such dataset"})
    assert "4-grpo: no such dataset" in page(tmp_path, "/runs/aligned")


def test_only_folders_that_the_server_shows_are_read(tmp_path: Path) -> None:
    """Paths and names in the files of a pipeline or sweep lead nowhere else."""
    outside = write_sweep(tmp_path / "secret") / "pref_beta-0.05"
    state = pipeline(tmp_path / "runs" / "aligned") / "pipeline.json"
    runs = [{"name": "other", "stage": "dpo", "output_dir": str(outside)}]
    write_json(state, {**read_json(state), "runs": runs})
    assert "other dpo not begun" in page(tmp_path, "/runs/aligned")
    state = write_sweep(tmp_path / "runs" / "sweep") / "sweep.json"
    points = [{"name": f"../../secret/{outside.name}", "values": {}, "status": "not begun"}]
    write_json(state, {**read_json(state), "points": points})
    assert "Loss, held-out" not in page(tmp_path, "/runs/sweep")


def test_progress_in_words() -> None:
    assert str(Progress("step", 1200, 8100, 125.0)) == "step 1,200 of 8,100, about 2 min left"
    assert str(Progress("step", 1, 2, 50.4)) == "step 1 of 2, about 50 s left"
    assert str(Progress("step", 1, 2, 18_120)) == "step 1 of 2, about 5 h 02 min left"
    assert str(Progress("round", 1, 3)) == "round 1 of 3"
