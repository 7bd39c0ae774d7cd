"""What transformers' Trainer is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from palate.config.load import config_from_values
from palate.models.precision import FP32
from palate.training.arguments import training_arguments

VALUES = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o"}


def test_a_wandb_project_reaches_the_tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "somebody else's")
    config = config_from_values({**VALUES, "report_to": "wandb", "wandb_project": "mine"}).config
    training_arguments(config, tmp_path, FP32, torch.device("cpu"))
    assert os.environ["WANDB_PROJECT"] == "mine"


def test_a_share_of_the_steps_warms_up_and_a_nan_is_not_hidden(tmp_path: Path) -> None:
    config = config_from_values({**VALUES, "warmup_ratio": 0.1}).config
    arguments = training_arguments(config, tmp_path, FP32, torch.device("cpu"))
    assert arguments.warmup_steps == 0.1
    assert arguments.logging_nan_inf_filter is False
    assert arguments.bf16 is False
    assert arguments.use_cpu is True
