"""The GPU benchmark: its whole course on a CPU, and what it says where something is missing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gpu
import pytest
import tables

OPTIONS = argparse.Namespace(dry_run=True, minutes=8.0, cases="one")


@pytest.mark.slow
def test_a_dry_run_exercises_everything_but_the_kernels(tmp_path: Path) -> None:
    result = gpu.measure(OPTIONS, tmp_path)
    assert {(row["kernel"], row["dtype"], row["equal"]) for row in result["attention"]} == {
        (f"palate_{kernel}", dtype, True) for kernel in ("tree", "varlen", "flex") for dtype in ("float32", "bfloat16")
    }
    assert [(run["tuning"], run["prompt"], run["answer"]) for run in result["runs"]] == [
        (tuning, prompt, answer) for prompt, answer in gpu.DRY_LENGTHS for tuning in ("full", "lora", "last")
    ]
    for run in result["runs"]:
        found = run["palate"]
        assert len(found["step_seconds"]) == len(found["losses"]) == gpu.STEPS
        tokens_of_a_pair = run["prompt"] + 2 * run["answer"]
        assert found["tokens_per_second"] == pytest.approx(tokens_of_a_pair * found["pairs_per_second"])
        if "error" in run["trl"]:
            assert run["trl"]["error"] == "not installed"
        else:  # the same model, rows and steps
            assert run["trl"]["losses"] == pytest.approx(found["losses"], abs=1e-4)
    [*_, table] = tables.gpu_table([result]).split("\n\n")
    assert len(table.splitlines()) == 2 + len(result["runs"])


def child(reports: dict[str, Any]) -> Any:
    def run(python: str, script: str, job: dict[str, Any]) -> dict[str, Any]:
        if job["do"] == "make":
            return {}
        found = reports[script]
        if isinstance(found, str):
            raise SystemExit(found)
        return {"runs": [{"name": one["name"], **found} for one in job["runs"]]}

    return run


OURS = {
    "attention": "varlen (torch.nn.attention.varlen)",
    "pairs_per_second": 10.0,
    "tokens_per_second": 15360.0,
    "flops_per_second": 4e14,
    "peak_bytes": 20e9,
    "rows": [{"prompt": [1], "completions": [[2], [3]]}],
}
THEIRS = {"pairs_per_second": 4.0, "peak_bytes": 80e9, "tokens_per_second": 6144.0}
FACTS = {"device": "cuda", "name": "Made Up", "peak_flops": 8e14, "versions": {"torch": "9.9"}, "attention": []}


@pytest.mark.parametrize(
    ("trl", "theirs", "cells"),
    [
        ("python", THEIRS, "| 10.00 | 4.00 | **2.50×** | 15360 | 50 % | 20.0 | 80.0 | **0.25×** | varlen"),
        (None, THEIRS, "| 10.00 | not installed |  | 15360 | 50 % | 20.0 |  |  | varlen"),
        ("python", "out of memory", "| 10.00 | out of memory |  | 15360 | 50 % | 20.0 |  |  | varlen"),
    ],
)
def test_the_table_of_both_sides(
    trl: str | None, theirs: Any, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "trl_or_none", lambda: trl)
    run = child({"_gpu_child.py": OURS, "_gpu_trl_child.py": theirs})
    options = argparse.Namespace(dry_run=False)
    found = gpu.compare(options, FACTS, run, lambda: 100.0, tmp_path)
    table = tables.gpu_table([{**FACTS, **found}])
    assert table.count(cells) == len(gpu.RUNS) * len(gpu.LENGTHS)
    assert all("rows" not in one["palate"] for one in found["runs"])


def test_a_side_that_fails_as_a_whole_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "trl_or_none", lambda: "python")
    run = child({"_gpu_child.py": "_gpu_child.py took longer than 9 s", "_gpu_trl_child.py": THEIRS})
    found = gpu.compare(argparse.Namespace(dry_run=False), FACTS, run, lambda: 100.0, tmp_path)
    assert {one["palate"]["error"] for one in found["runs"]} == {"_gpu_child.py took longer than 9 s"}
    assert {one["trl"]["error"] for one in found["runs"]} == {"no time left"}
