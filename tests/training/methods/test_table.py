"""The table of methods: a row for each stage, and a new method is one class and one row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from palate.config.run import STAGES
from palate.models.logprobs import Logps
from palate.records import PreferencePair
from palate.training import methods
from palate.training.methods.base import LogpsMethod, LossOutput, Rows
from runs import metrics, run


def test_every_stage_has_a_method() -> None:
    assert set(methods.METHODS) == set(STAGES)


class Unlikelihood(LogpsMethod):
    """A toy: the mean log-probability of rejected answers is to fall."""

    name = "unlikelihood"
    record = PreferencePair

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows) -> LossOutput:
        return LossOutput(policy.means[1::2], {"toy/tokens": policy.tokens[1::2]})


def test_a_toy_method_is_one_class_and_one_row(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, Callable[..., Any]] = {**methods.METHODS, "dpo": lambda config: Unlikelihood()}
    monkeypatch.setattr(methods, "METHODS", MappingProxyType(rows))
    run(
        model, tmp_path / "run", per_device_train_batch_size=4, max_steps=4, eval_dataset=str(tmp_path / "pairs8.jsonl")
    )
    history = metrics(tmp_path / "run")
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    assert "toy/tokens" in metrics(tmp_path / "run", "eval")[0]
    assert torch.isfinite(torch.tensor([row["grad_norm"] for row in history])).all()
