"""KTO, rankings and several dimensions on real data, on a tiny model: they train and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from runs import metrics, run, run_json, write_rows
from tiny import save_tiny

SHAPE: dict[str, Any] = {"cutoff_len": 512, "per_device_train_batch_size": 4, "max_steps": 3, "max_dropped": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "llama")


def test_kto_on_labelled_answers(model: Path, tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    data = str(shared_data("preference/lf_kto_en_demo.json"))
    run(model, tmp_path / "run", stage="kto", dataset=data, max_samples=60, **{**SHAPE, "cutoff_len": 1024})
    history = metrics(tmp_path / "run")
    assert history[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    assert history[-1]["loss"] < 0.5
    assert all(row["kl"] >= 0 for row in history)
    assert run_json(tmp_path / "run")["status"] == "completed"


def test_rankings_of_any_length(model: Path, tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    data = str(shared_data("preference/oasst_rm_zh.json"))
    changed = {**SHAPE, "cutoff_len": 1024}
    run(model, tmp_path / "run", pref_loss="plackett_luce", dataset=data, max_samples=80, **changed)
    history = metrics(tmp_path / "run")
    assert history[-1]["rewards/accuracies"] != 0.5
    assert run_json(tmp_path / "run")["status"] == "completed"


def dimensional(path: Path, rows: int) -> list[dict[str, Any]]:
    """Of XSTest's answers the pairs that differ: helpful by the better answer, safe by the safety labels."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        better = row["better_response_id"]
        if better not in (0, 1) or row["response_0"] == row["response_1"]:
            continue
        helpful = {"chosen": 1, "rejected": 0}
        safe = {
            "chosen": int(row[f"is_response_{better}_safe"]),
            "rejected": int(row[f"is_response_{1 - better}_safe"]),
        }
        chosen, rejected = row[f"response_{better}"], row[f"response_{1 - better}"]
        dimensions = {"helpful": helpful, "safe": safe}
        found.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected, "dimensions": dimensions})
    return found[:rows]


def test_helpful_and_safe(model: Path, tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    rows = dimensional(shared_data("preference/xstest_safety_pairs.jsonl"), 60)
    assert any(a["dimensions"]["safe"] != b["dimensions"]["safe"] for a, b in combinations(rows, 2))
    data = write_rows(tmp_path / "rows.jsonl", rows)
    weights = {"helpful": 0.5, "safe": 0.5}
    changed = {**SHAPE, "cutoff_len": 1024, "per_device_train_batch_size": 16}
    run(model, tmp_path / "run", pref_loss="multi_soft", dimension_weights=weights, dataset=str(data), **changed)
    last = metrics(tmp_path / "run")[-1]
    assert 0 <= last["rewards/accuracies/helpful"] <= 1
    assert run_json(tmp_path / "run")["status"] == "completed"
