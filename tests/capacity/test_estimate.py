"""Disk, cost, what would make a run fit, and the text of it all."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from palate.capacity.estimate import as_lines, disk_of, estimate
from palate.capacity.hardware import parse_hardware
from palate.capacity.job import Job, RowTokens, Workload
from palate.capacity.shapes import SIZES
from palate.config.load import config_from_values


def job(hardware: str = "H200", size: str = "8b", devices: int = 1, rows: int = 1000, **values: Any) -> Job:
    given = {"stage": "dpo", "model_name_or_path": size, "dataset": "d", "output_dir": "o", **values}
    work = Workload(rows, [RowTokens(512, (256, 256))], "lengths as given")
    return Job(config_from_values(given).config, SIZES[size], work, parse_hardware(hardware), devices)


def test_disk_has_checkpoints_model_and_reference() -> None:
    parameters = SIZES["8b"].counts.total
    found = disk_of(job(save_steps=300, save_total_limit=2))
    assert found == {
        "checkpoints": 2 * 12 * parameters, "final model": 4 * parameters, "reference store": 1000 * (4 * 512 + 24)
    }  # fmt: skip
    assert disk_of(job(save_steps=300))["checkpoints"] == 4 * 12 * parameters
    assert disk_of(job(save_steps=0.5))["checkpoints"] == 2 * 12 * parameters
    assert disk_of(job(save_strategy="epoch", num_train_epochs=2.5))["checkpoints"] == 3 * 12 * parameters
    assert disk_of(job(save_strategy="no", save_only_model=True))["checkpoints"] == 0
    assert disk_of(job(save_only_model=True))["checkpoints"] == 2 * 4 * parameters
    lora = job(finetuning_type="lora", reference_cache="off")
    assert disk_of(lora) == {"checkpoints": 2 * 12 * lora.adapter, "final model": 4 * lora.adapter}


def test_the_cost_is_that_of_all_devices() -> None:
    found = estimate(job(devices=8), 3.0)
    assert found.cost == pytest.approx(3.0 * 8 * found.duration.of_run / 3600)
    assert estimate(job()).cost is None


def test_what_fits_has_no_remedies() -> None:
    found = estimate(job(finetuning_type="lora", gradient_checkpointing=True))
    assert found.memory.fits
    assert found.remedies == ()


def test_remedies_are_gentle_first_and_their_figures_are_those_of_the_changed_run() -> None:
    found = estimate(job(per_device_train_batch_size=8))
    assert not found.memory.fits
    named = [remedy.changes for remedy in found.remedies]
    assert named[0] == ("gradient_checkpointing: true",)
    assert named[1] == ("gradient_checkpointing: true", "optim: adamw_8bit")
    assert [remedy.fits for remedy in found.remedies] == [False, True, True, True, True]
    assert named[2][-2:] == ("fsdp: full_shard auto_wrap", "2 devices")
    assert named[3] == ("finetuning_type: lora",)
    assert named[4][-1] == "quantization_bit: 4"
    narrow = estimate(job(per_device_train_batch_size=8, gradient_checkpointing=True, optim="adamw_8bit"))
    assert narrow.memory.peak == found.remedies[1].peak
    sharded = job(
        devices=2,
        per_device_train_batch_size=8,
        gradient_checkpointing=True,
        fsdp="full_shard auto_wrap",
        max_tokens_per_batch=1024,
    )
    assert estimate(sharded).memory.peak == found.remedies[2].peak


def test_a_model_that_never_fits_says_how_near_each_remedy_comes() -> None:
    found = estimate(job("RTX4090", "70b"))
    assert found.remedies
    assert not any(remedy.fits for remedy in found.remedies)
    assert min(remedy.peak for remedy in found.remedies) > found.memory.limit


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"devices": 8, "fsdp": "full_shard offload auto_wrap"},
        {"finetuning_type": "lora", "quantization_bit": 4, "rows": 3_000_000},
        {"size": "70b", "hardware": "RTX3090", "optim": "paged_adamw_32bit"},
    ],
)
def test_lines_are_at_most_78_characters(values: dict[str, Any]) -> None:
    given = job(**values)
    given = replace(given, shape=replace(given.shape, name="/a/long/folder" * 9))
    found = estimate(given, 2.5)
    lines = as_lines(found)
    assert max(map(len, lines)) <= 78
    assert lines[0].startswith("Computed, not measured")
    assert any(line.startswith("peak") and "fit" in line for line in lines)
    assert json.loads(json.dumps(found.to_json()))["memory"]["peak"] == found.memory.peak


def test_it_is_imported_without_torch() -> None:
    code = "import sys, palate.capacity.estimate; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
