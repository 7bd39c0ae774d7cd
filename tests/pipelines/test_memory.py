"""Memory between rounds: a run leaves no model behind, and four rounds take no more than the first."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from palate.config.pipeline import load_pipeline
from palate.pipelines import pipeline
from palate.training.trainer import PalateTrainer
from runs import config_file, run, write_rows
from tiny import save_tiny

MIB = 2**20


def left_behind() -> list[Any]:
    """Models, trainers and parameters that are still there once nothing can reach them."""
    gc.collect()
    kinds = (PreTrainedModel, PalateTrainer, torch.nn.Parameter)
    return [one for one in gc.get_objects() if issubclass(type(one), kinds)]  # isinstance would ask lazy modules


def held() -> int:
    """Resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"finetuning_type": "lora"},
        {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "val_size": 2, "sample_prompts": 1},
        {"reference_cache": "auto"},
        {"stage": "rm"},
        {"stage": "grpo", "rewards": "length:longer", "max_new_tokens": 4, "cutoff_len": 128, "reference_cache": None},
        {"stage": "ppo", "rewards": "length:longer", "max_new_tokens": 4, "cutoff_len": 128, "reference_cache": None},
    ],
    ids=["full", "lora", "freeze", "stored", "rm", "grpo", "ppo"],
)
def test_a_run_leaves_no_model_behind(model: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    """Also not where Python's collector cannot see: a graph whose node holds its own output is such a cycle."""
    before = {id(one) for one in left_behind()}
    run(model, tmp_path / "run", max_steps=1, **changed)
    assert [type(one).__name__ for one in left_behind() if id(one) not in before] == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_four_rounds_take_no_more_than_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 27 MiB: one that stayed each round would show three times over."""
    big = save_tiny(tmp_path / "llama", hidden_size=256, intermediate_size=1024, num_hidden_layers=7)
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(4)])
    after: list[int] = []
    trainers: list[weakref.ref[Any]] = []
    real, begin = pipeline.give_back_memory, PalateTrainer.__init__

    def watched() -> None:
        real()
        after.append(held())

    def counted(self: Any, **given: Any) -> None:
        begin(self, **given)
        trainers.append(weakref.ref(self))

    monkeypatch.setattr(pipeline, "give_back_memory", watched)
    monkeypatch.setattr(PalateTrainer, "__init__", counted)
    given = {
        **{"stage": "dpo", "rounds": 4, "model_name_or_path": str(big), "output_dir": str(tmp_path / "out")},
        **{"prompts": str(tmp_path / "prompts.jsonl"), "judge": "length:longer", "candidates": 2},
        **{"candidate_max_new_tokens": 8, "candidate_temperature": 2.0, "drift_samples": 1, "max_steps": 1},
        **{"drift_max_new_tokens": 2, "precision": "fp32", "report_to": "none", "sample_prompts": 0},
    }
    pipeline.run_pipeline(load_pipeline(config_file(tmp_path / "p.yaml", given)))
    assert len(trainers) == 4
    assert all(one() is None for one in trainers)
    assert len(after) == 12, "after the answers, after training and after the drift of each round"
    first, last = after[2::3][0], after[2::3][-1]
    assert last - first < 20 * MIB, [size // MIB for size in after]
