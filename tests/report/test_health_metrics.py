"""What the report shows of sampled answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palate.artifacts import write_json
from palate.report.contents import RunContents, read_contents
from palate.report.health_metrics import health_charts, health_table
from palate.report.pages.run import run_report

BEFORE = {"length": 20.0, "distinct_2": 0.9, "loops": 0.0, "ended": 0.75, "entropy": 2.0, "kl": None}


def evaluation(step: int, **changed: float) -> dict[str, Any]:
    vitals = {"length": 22.0, "distinct_2": 0.8, "loops": 0.125, "ended": 0.5, "entropy": 1.5, "kl": 4.4, **changed}
    return {"step": step, "split": "eval", "loss": 0.6, **{f"health/{name}": item for name, item in vitals.items()}}


def contents(folder: Path, rows: list[dict[str, Any]], **facts: Any) -> RunContents:
    write_json(folder / "run.json", {"status": "completed", "config": {"health_max_kl": 0.5}, "health": [], **facts})
    write_json(folder / "health.json", {"schema": 1, "of": "reference", "prompts": 8, "vitals": BEFORE})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_contents(folder)


def test_a_table_begins_with_the_reference(tmp_path: Path) -> None:
    table = health_table(contents(tmp_path, [evaluation(5), evaluation(10, loops=0.5)]))
    assert table is not None
    assert [row[0] for row in table.rows] == ["the reference", "step 5", "step 10"]
    loops = table.columns.index("end in a loop")
    assert [row[loops] for row in table.rows] == ["0 %", "12 %", "50 %"]
    assert table.rows[0][table.columns.index("KL per answer")] == "–"
    assert "margin with length" not in table.columns, "not measured in this run"


def test_charts_show_the_limit_and_the_reference(tmp_path: Path) -> None:
    run = contents(tmp_path, [evaluation(5, kl_per_token=0.2), evaluation(10, kl_per_token=0.7)])
    drawn = dict(health_charts(run))
    assert list(drawn) == [
        "KL to the reference",
        "Entropy of sampled answers",
        "Length of sampled answers",
        "Shape of sampled answers",
    ]
    assert ">limit<" in drawn["KL to the reference"]
    assert "goes from 0.2 at step 5 to 0.7 at step 10" in drawn["KL to the reference"]
    assert ">reference<" in drawn["Length of sampled answers"]


def test_a_run_that_nobody_examined_shows_nothing(tmp_path: Path) -> None:
    run = contents(tmp_path, [{"step": 5, "split": "eval", "loss": 0.6}])
    assert health_table(run) is None
    assert health_charts(run) == []


def test_the_page_says_what_was_seen_and_the_remedy_or_that_there_was_nothing(tmp_path: Path) -> None:
    rows = [{"step": 1, "split": "train", "loss": 0.69}, evaluation(5, kl_per_token=0.7)]
    assert "Nothing wrong was found in 1 step and 1 evaluation." in run_report(contents(tmp_path, rows))
    finding = {
        "step": 5,
        "name": "far_from_reference",
        "severity": "warning",
        "message": "KL is 0.70",
        "remedy": "less",
    }
    page = run_report(contents(tmp_path, rows, health=[finding]))
    assert "Nothing wrong" not in page
    assert "far from reference" in page
    assert "Try: less" in page
    assert "Sampled answers to the fixed prompts" in page
