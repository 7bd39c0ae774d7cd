"""The estimate of a run's peak: its parts are what they say, and the token budget follows from what is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palate.models.precision import BF16, FP32
from palate.models.probe.probe import probe
from palate.models.tuning.trainable import add_lora, train_last_layers
from palate.text.batch import Batch, pack
from palate.training.setup import memory
from palate.training.setup.memory import MemoryPlan, largest_batch, plan_memory
from runs import run, run_json
from tiny import random_groups, tiny_model

CPU = torch.device("cpu")


@pytest.fixture
def batch() -> Batch:
    return pack(random_groups(2, prompt=(40, 50), answer=(20, 30)))


def plan(model: Any, batch: Batch, **changed: Any) -> MemoryPlan:
    given = {"precision": FP32, "optimiser": "adamw_torch_fused", "tokens": None, "largest": 10**9, "trunk": 0}
    return plan_memory(model, batch, device=CPU, **{**given, **changed})


def packed_model(kind: str = "llama") -> Any:
    model = tiny_model(kind)
    assert probe(model).packed
    return model


def trained(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("optimiser", "bytes_each"), [("sgd", 4), ("adamw_torch_fused", 12), ("adafactor", 5), ("adamw_8bit", 6)]
)
def test_gradients_and_states_follow_from_what_trains(batch: Batch, optimiser: str, bytes_each: int) -> None:
    model = packed_model()
    assert plan(model, batch, optimiser=optimiser).training == bytes_each * trained(model)
    train_last_layers(model, 1)
    assert plan(model, batch, optimiser=optimiser).training == bytes_each * trained(model)


def test_autocast_holds_each_linear_weight_once_more(batch: Batch) -> None:
    model = packed_model("qwen2")
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    both = plan(model, batch, precision=BF16).training, plan(model, batch).training
    assert both[0] - both[1] == 2 * linear


def test_activations_are_those_that_autograd_keeps(batch: Batch) -> None:
    """Each layer of width 32 keeps its residual streams, projections, products and probabilities; LoRA keeps fewer."""
    whole = plan(packed_model(), batch).per_token
    residual, projections, gated = 2 * 32, 32 + 16 + 16 + 32, 2 * 48
    assert whole > 3 * 4 * (residual + projections + gated)
    last = packed_model()
    train_last_layers(last, 1)
    assert plan(last, batch).per_token < 0.6 * whole
    checkpointed = packed_model()
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    assert plan(checkpointed, batch).per_token < 0.5 * whole


def test_the_weights_of_adapters_are_all_that_trains(batch: Batch) -> None:
    model = add_lora(packed_model(), rank=2, alpha=4)
    assert plan(model, batch).training == 12 * trained(model)


def test_the_budget_is_what_fits_into_free_memory(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    model = packed_model()
    generous = plan(model, batch)
    assert generous.tokens == 4096
    room = generous.training + 2000 * generous.per_token
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: int(room / 0.85))
    assert plan(model, batch).tokens == 2000 // 256 * 256
    assert plan(model, batch, trunk=1000 * generous.per_token).tokens == 1000 // 256 * 256
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: 0)
    assert plan(model, batch).tokens == 512, "a run may still be tried where memory seems to be short"


def test_a_given_budget_stands_and_no_step_needs_more_than_it_has(batch: Batch) -> None:
    model = packed_model()
    assert plan(model, batch, tokens=777).tokens == 777
    assert plan(model, batch, tokens=777, largest=300).tokens == 300
    assert largest_batch([5, 9, 2, 7], 2) == 16


def test_measuring_leaves_the_model_as_it_was(batch: Batch) -> None:
    model = packed_model()
    model.eval()
    plan(model, batch)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_a_run_says_and_records_what_it_foresees(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(model, tmp_path / "run", rows=6)
    assert "memory    about " in capfd.readouterr().err
    record = run_json(tmp_path / "run")
    parts = record["memory"]
    assert parts["peak"] == parts["base"] + parts["training"] + parts["trunk"] + parts["per_token"] * parts["tokens"]
    # Linux keeps the two counts apart, and each lags by some pages for each thread.
    assert record["peak_memory_bytes"] > 0.99 * parts["base"]


def test_what_will_not_fit_is_said_with_what_to_do() -> None:
    sizes = {"base": 2**30, "training": 2**32, "per_token": 2**20, "trunk": 0, "tokens": 1024}
    assert "are free" not in MemoryPlan(**sizes, available=2**33).line()
    assert "only 4.0 GiB are free: try gradient_checkpointing: true" in MemoryPlan(**sizes, available=2**32).line()
