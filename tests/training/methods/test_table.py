"""The table of methods: a row for each stage, and a new method is one class and one row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytest
import torch
from pydantic import Field

from palate.cli.main import main
from palate.config import load
from palate.config.base import Fields
from palate.config.run import STAGES, DpoConfig, Run
from palate.config.stages.preference import ReferenceFields, SampleFields
from palate.models.scoring.logps import Logps
from palate.records import PreferencePair
from palate.training import methods
from palate.training.methods.base import LossOutput, Method, Rows, Traits
from runs import config_file, metrics, run, run_json, values


def test_every_stage_has_a_method() -> None:
    assert set(methods.METHODS) == set(STAGES.values())


class Unlikelihood(Method[Logps]):
    """A toy: the mean log-probability of rejected answers is to fall."""

    traits = Traits(name="unlikelihood", record=PreferencePair)

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        return LossOutput(policy.means[1::2], {"toy/tokens": policy.tokens[1::2]})


def test_a_toy_method_is_one_class_and_one_row(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[type[Any], Callable[..., Any]] = {**methods.METHODS, DpoConfig: lambda config: Unlikelihood()}
    monkeypatch.setattr(methods, "METHODS", MappingProxyType(rows))
    run(
        model, tmp_path / "run", per_device_train_batch_size=4, max_steps=4, eval_dataset=str(tmp_path / "pairs8.jsonl")
    )
    history = metrics(tmp_path / "run")
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    assert "toy/tokens" in metrics(tmp_path / "run", "eval")[0]
    assert torch.isfinite(torch.tensor([row["grad_norm"] for row in history])).all()


class ToyFields(Fields):
    """The toy's own key."""

    toy_weight: float = Field(1.0, gt=0, description="What its loss is multiplied with.")


class ToyConfig(SampleFields, ReferenceFields, ToyFields, Run):
    """A stage of its own."""

    stage: Literal["toy"] = Field("toy", description="Which kind of training this is.")
    learning_rate: float = 5e-3


class Compared(Method[Logps]):
    """A toy with a reference: rejected answers are to fall below it."""

    traits = Traits(name="compared", record=PreferencePair, needs_reference=True, start_loss=lambda _: 0.0)

    def __init__(self, config: ToyConfig) -> None:
        self._weight = config.toy_weight

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        assert reference is not None
        return LossOutput(self._weight * (policy.sums - reference.sums)[1::2])


def test_a_toy_stage_is_a_class_and_a_row_in_either_table(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Through the command line: planned, trained with a reference, evaluated, reported; its key is read or refused."""
    stages: dict[str, Any] = {**STAGES, "toy": ToyConfig}
    monkeypatch.setattr(load, "STAGES", MappingProxyType(stages))
    rows: dict[type[Any], Callable[..., Any]] = {**methods.METHODS, ToyConfig: Compared}
    monkeypatch.setattr(methods, "METHODS", MappingProxyType(rows))
    given = values(model, tmp_path / "run", stage="toy", toy_weight=3.0, max_steps=4, val_size=2, sample_prompts=1)
    path = str(config_file(tmp_path / "toy.yaml", given))
    assert main(["plan", path]) == 0
    assert "toy_weight: 3.0" in capfd.readouterr().out
    assert main(["train", path]) == 0
    history = metrics(tmp_path / "run")
    assert history[0]["loss"] == pytest.approx(0.0, abs=1e-4)
    assert history[-1]["loss"] < -0.3
    assert run_json(tmp_path / "run")["objective"] == "compared"
    assert (tmp_path / "run" / "report.html").exists()
    assert main(["eval", "accuracy", str(tmp_path / "run")]) == 0
    assert main(["train", path, "stage=dpo"]) == 2
    assert "toy_weight" in capfd.readouterr().err
