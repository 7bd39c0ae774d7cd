"""KTO, rankings and several dimensions on real data, on a tiny model: they train and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from runs import config_file, metrics, run, run_json, values, write_rows
from tiny import save_tiny

SHAPE: dict[str, Any] = {"cutoff_len": 512, "per_device_train_batch_size": 4, "max_steps": 3, "max_dropped": 1.0}
LONG: dict[str, Any] = {"cutoff_len": 1024}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "llama")


def trained(folder: Path, given: dict[str, Any]) -> list[dict[str, Any]]:
    """`palate train`, and what it logged."""
    assert main(["train", str(config_file(folder.with_suffix(".yaml"), given))]) == 0
    assert run_json(folder)["status"] == "completed"
    return metrics(folder)


def reported(folder: Path) -> str:
    """`palate report`."""
    assert main(["report", str(folder)]) == 0
    return (folder / "report.html").read_text(encoding="utf-8")


def test_kto_on_labelled_answers(
    model: Path, tmp_path: Path, shared_data: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    data, folder = str(shared_data("preference/lf_kto_en_demo.json")), tmp_path / "run"
    given = values(model, folder, stage="kto", dataset=data, max_samples=60, val_size=0.2, **{**SHAPE, **LONG})
    history = trained(folder, given)
    assert history[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    assert history[-1]["loss"] < 0.5
    assert all(row["kl"] >= 0 for row in history)
    assert {"loss", "rewards/margins", "kl"} <= metrics(folder, "eval")[-1].keys()
    assert "rewards/margins" in reported(folder)
    # Its rows are no pairs; other pairs are named.
    capfd.readouterr()
    assert main(["eval", "accuracy", str(folder)]) != 0
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("palate: error: ")
    assert "--dataset" in said
    pairs = str(shared_data("preference/lf_dpo_en_demo.json"))
    assert main(["eval", "accuracy", str(folder), "--dataset", pairs, "--max-samples", "30", "--json"]) == 0
    assert 3 <= json.loads(capfd.readouterr().out)["n"] < 30  # those that fit the run's length


def test_rankings_of_any_length(
    model: Path, tmp_path: Path, shared_data: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    data, folder = str(shared_data("preference/oasst_rm_zh.json")), tmp_path / "run"
    changed = {**SHAPE, **LONG, "max_samples": 80, "val_size": 0.2}
    history = trained(folder, values(model, folder, pref_loss="plackett_luce", dataset=data, **changed))
    assert history[-1]["rewards/accuracies"] != 0.5
    assert "rewards/accuracies" in reported(folder)
    capfd.readouterr()
    assert main(["eval", "accuracy", str(folder), "--json"]) == 0
    measured = json.loads(capfd.readouterr().out)
    assert measured["n"] > 1
    assert measured["implied"]["low"] <= measured["implied"]["estimate"] <= measured["implied"]["high"]
    assert (folder / "accuracy.json").exists()


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
