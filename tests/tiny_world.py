"""Review experiments on a model of one layer, two optimiser steps a run: the shape of everything, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from _cells import Workshop
from _config import read_experiment_config

from palate.training.setup.environment import machine, versions

CONFIGS = Path(__file__).resolve().parents[1] / "experiments" / "configs"

# Two steps teach nothing, so sentiment must come of chance: whole words in the vocabulary, and long answers.
TINY = (
    "max_steps=2",
    "width=32",
    "layers=1",
    "vocabulary=700",
    "films=300",
    "meals=100",
    "train_prompts=40",
    "labels=24",
    "held_out_labels=8",
    "held_out_prompts=6",
    "measured_prompts=6",
    "checkpoints=2",
    "max_new_tokens=24",
    "batch=4",
    "group=2",
    "rounds=2",
    "rollouts=32",
)


def result_of(module: ModuleType, name: str, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """What `run.py` would record of the experiment's own config with these overrides.

    Args:
        folder: of all experiments of the session, which share one world.
    """
    config = read_experiment_config(module.Config, CONFIGS / f"{name}.yaml", [*TINY, *overrides])
    work = folder / name
    cells = Workshop(work, module.cells(config, work)).make(workers=1, threads=1, on_progress=lambda line: None)
    return {
        "experiment": name,
        "config": config.resolved(),
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
        "cells": cells,
    }
