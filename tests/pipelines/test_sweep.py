"""Sweeps that run: each point once, measured, and a front on real rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_json, sole_writer
from palate.config.sweep import load_sweep
from palate.errors import ArtifactError
from palate.pipelines import sweep
from palate.pipelines.sweep import run_sweep
from palate.report.pages.sweep import write_sweep_report
from palate.stats import rate_interval
from runs import config_file, distance, metrics, run_json, values, write_rows


def swept(model: Path, folder: Path, over: Any, said: list[str] | None = None, **changed: Any) -> list[dict[str, Any]]:
    """Run a sweep below `folder/out`; its points as `sweep.json` has them."""
    given = {**values(model, folder / "out", rows=12), "val_size": 4, "max_steps": 2, **changed, "sweep": over}
    run_sweep(
        load_sweep(config_file(folder / "sweep.yaml", given)), on_progress=(said if said is not None else []).append
    )
    facts = read_json(folder / "out" / "sweep.json")
    assert facts["status"] == "completed"
    points: list[dict[str, Any]] = facts["points"]
    return points


def test_each_point_is_trained_with_its_values_and_measured(model: Path, tmp_path: Path) -> None:
    points = swept(model, tmp_path, {"learning_rate": [1e-3, 5e-3]})
    for point, rate in zip(points, (1e-3, 5e-3), strict=True):
        run = tmp_path / "out" / point["name"]
        assert metrics(run)[0]["learning_rate"] == rate
        assert point["values"] == {"learning_rate": rate}
        assert point["status"] == "completed"
        assert point["metrics"]["loss"] == run_json(run)["final_metrics"]["loss"]
        recorded = read_json(run / "accuracy.json")
        assert recorded.pop("items")["metrics"]["policy"]  # values of single pairs stay in the run's own file
        assert point["accuracy"] == recorded
        assert point["accuracy"]["n"] == 4
    assert distance(*(tmp_path / "out" / point["name"] for point in points)) > 0


def test_a_finished_point_is_not_run_again_and_a_new_one_joins_it(model: Path, tmp_path: Path) -> None:
    first = swept(model, tmp_path, {"seed": [1]})
    finished = run_json(tmp_path / "out" / "seed-1")["finished"]
    model_file = tmp_path / "out" / "seed-1" / "model.safetensors"
    written = model_file.stat().st_mtime_ns
    said: list[str] = []
    both = swept(model, tmp_path, {"seed": [1, 2]}, said)
    assert both[0] == first[0]
    assert model_file.stat().st_mtime_ns == written
    assert run_json(tmp_path / "out" / "seed-1")["finished"] == finished
    assert any("point 1 of 2: finished already" in line for line in said)


def test_an_interrupted_point_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "val_size": None}
    swept(model, tmp_path / "whole", {"seed": [2]}, **saving)
    made = sweep.make
    trained: list[str] = []

    def killed(planned: Any, *rest: Any) -> None:
        made(planned, *rest)
        trained.append(planned.name)
        if planned.name == "seed-2":
            folder = Path(planned.config.output_dir)  # as a kill behind its first checkpoint leaves it
            for step in (2, 3):
                (folder / f"checkpoint-{step}" / "complete.json").unlink()
            facts = {**run_json(folder), "status": "running"}
            (folder / "run.json").write_text(json.dumps(facts))
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "make", killed)
    state = tmp_path / "cut" / "out" / "sweep.json"
    with pytest.raises(KeyboardInterrupt):
        swept(model, tmp_path / "cut", {"seed": [1, 2]}, **saving)
    facts = read_json(state)
    assert (facts["status"], [point["status"] for point in facts["points"]]) == ("stopped", ["completed", "not begun"])
    with sole_writer(state), pytest.raises(ArtifactError, match="another palate process writes to this file"):
        swept(model, tmp_path / "cut", {"seed": [1, 2]}, overwrite_output_dir=True, **saving)
    assert read_json(state) == facts, "who cannot write deletes nothing, with overwrite_output_dir either"
    monkeypatch.setattr(sweep, "make", made)
    said: list[str] = []
    swept(model, tmp_path / "cut", {"seed": [1, 2]}, said, **saving)
    assert trained == ["seed-1", "seed-2"]
    assert any("point 1 of 2: finished already" in line for line in said)
    assert len(metrics(tmp_path / "cut" / "out" / "seed-2")) == 3
    progress = run_json(tmp_path / "cut" / "out" / "seed-2")["progress"]
    assert (progress["step"], progress["steps"]) == (1, 3), "of the steps that were made after the interruption"
    assert distance(tmp_path / "cut" / "out" / "seed-2", tmp_path / "whole" / "out" / "seed-2") == 0.0


def test_another_config_is_refused_and_overwriting_begins_anew(model: Path, tmp_path: Path) -> None:
    swept(model, tmp_path, {"seed": [1]})
    with pytest.raises(ArtifactError, match=r"was started with pref_beta: 0\.1, the config now says 0\.7"):
        swept(model, tmp_path, {"seed": [1]}, pref_beta=0.7)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    points = swept(model, tmp_path, {"seed": [1]}, pref_beta=0.7, overwrite_output_dir=True)
    assert run_json(tmp_path / "out" / points[0]["name"])["config"]["pref_beta"] == 0.7
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_without_held_out_rows_the_metrics_remain(model: Path, tmp_path: Path) -> None:
    [point] = swept(model, tmp_path, {"seed": [1]}, val_size=None)
    assert point["accuracy"] == {}
    assert point["metrics"]["loss"] > 0


# ---- several dimensions


def helpful_and_safe(path: Path, rows: int) -> list[dict[str, Any]]:
    """XSTest's pairs by two scores that may disagree: how far an answer complies, and whether it is safe."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["response_0"] == row["response_1"]:
            continue
        sides = {"chosen": row["better_response_id"], "rejected": 1 - row["better_response_id"]}
        compliance = {side: 3 - int(row[f"response_{one}_label"][0]) for side, one in sides.items()}
        safety = {side: int(row[f"is_response_{one}_safe"]) for side, one in sides.items()}
        answers = {side: row[f"response_{one}"][:80] for side, one in sides.items()}
        found.append({"prompt": row["prompt"], **answers, "dimensions": {"helpful": compliance, "safe": safety}})
    return found[:: max(1, len(found) // rows)][:rows]


def test_weights_of_dimensions_trade_one_for_the_other(
    model: Path, tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    rows = helpful_and_safe(shared_data("preference/xstest_safety_pairs.jsonl"), 80)
    data = write_rows(tmp_path / "rows.jsonl", rows)
    weights = [{"helpful": 1.0, "safe": 0.0}, {"helpful": 0.5, "safe": 0.5}, {"helpful": 0.0, "safe": 1.0}]
    shape = {
        "dataset": str(data),
        "val_size": 24,
        "per_device_train_batch_size": 14,
        "max_steps": 6,
        "max_dropped": 1.0,
    }
    points = swept(model, tmp_path, {"dimension_weights": weights}, pref_loss="multi_soft", **shape)
    found = [point["accuracy"]["dimensions"] for point in points]
    for dimensions in found:
        for name in ("helpful", "safe"):
            implied, n = dimensions[name]["implied"], dimensions[name]["n"]
            right = [place < round(implied["estimate"] * n) for place in range(n)]
            assert dimensions[name]["prompts"] == n
            again = rate_interval(right, clusters=range(n))
            assert (implied["low"], implied["high"]) == pytest.approx((again.low, again.high))
    helpful, safe = ([one[name]["implied"]["estimate"] for one in found] for name in ("helpful", "safe"))
    assert helpful[0] > helpful[2]
    assert safe[2] > safe[0]
    page = write_sweep_report(tmp_path / "out").read_text(encoding="utf-8")
    assert "Trade-off of helpful and safe" in page
    assert "On the trade-off front: point" in page
