"""The table of computed figures is the one that the code computes; a measurement writes what its table shows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from tables import capacity_table

import capacity
from palate.capacity.hardware import Hardware

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_has_the_computed_table() -> None:
    page = (REPOSITORY / "docs" / "plan.md").read_text(encoding="utf-8")
    written = page.partition("<!-- table computed -->\n")[2].partition("<!-- end computed -->")[0].strip()
    assert written == capacity.computed_table(), "python benchmarks/capacity.py --computed docs/plan.md"


def test_every_combination_is_run_and_estimated(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[dict[str, Any]] = []

    def child(_python: str, _script: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        if job["do"] == "make_rows":
            return {"model": str(tiny_folder)}
        configs.append(job["config"])
        return {
            "peak_bytes": 2_000_000_000,
            "timings": {"train": 6.0},
            "train_cpu_seconds": 4.0,
            "threads": 2,
            "steps": [{}, {}],
            "tokens_per_group": 47,
            "memory": {},
        }

    monkeypatch.setattr(capacity, "run_child", child)
    monkeypatch.setattr(capacity, "this_machine", lambda: Hardware("this", 16, 0.1, 10, gpu=False))
    options = argparse.Namespace(
        precision="fp32", modes=["full", "lora"], lengths=[32], steps=2, batch=1, model="m", source="s"
    )
    rows = list(capacity.measure(options, tmp_path))
    assert [(one["finetuning_type"], one["gradient_checkpointing"]) for one in configs] == [
        ("full", False), ("full", True), ("lora", False), ("lora", True)
    ]  # fmt: skip
    first = json.loads(json.dumps(rows))[0]
    assert (first["measured_step_seconds"], first["cpu_step_seconds"]) == (3.0, 1.0)
    assert 0.6e9 < first["predicted_bytes"] < 0.8e9, "the libraries, and little else"
    ratio = first["predicted_bytes"] / 2e9
    line = capacity_table([{"rows": rows, "precision": "fp32", "machine": {"cpu": "Made Up"}}]).splitlines()[2]
    assert line.startswith(f"| full, fp32 | 32 | no | {first['predicted_bytes'] / 1e9:.2f} | 2.00 | **{ratio:.2f}×** |")
