"""Steps of a run, and settings that do not fit its rows: each warning names a key and a value that end it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from palate.config.load import config_from_values
from palate.config.run import STAGES, RunConfig
from palate.config.steps import doubtful_settings, recommended_rate, step_count
from palate.errors import ConfigError

GIVEN = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o"}


def config(**keys: Any) -> RunConfig:
    return config_from_values({**GIVEN, "per_device_train_batch_size": 8, **keys}).config


@pytest.mark.parametrize(
    ("keys", "rows", "devices", "steps"),
    [
        ({}, 648, 1, 81),
        ({"num_train_epochs": 3}, 648, 1, 243),
        ({"num_train_epochs": 0.5}, 9, 1, 1),
        ({"gradient_accumulation_steps": 4}, 100, 2, 2),  # 64 rows to a step, the second one of 36
        ({"max_steps": 7}, 648, 1, 7),
        ({"stage": "ppo", "rewards": "length:shorter", "ppo_epochs": 2}, 80, 1, 20),
    ],
)
def test_the_number_of_steps(keys: dict[str, Any], rows: int, devices: int, steps: int) -> None:
    assert step_count(config(**keys), rows, devices) == steps


def test_the_recommended_rates_are_those_of_the_manual() -> None:
    assert [recommended_rate(STAGES["dpo"], tuning, count) for tuning, count in (("full", 10**8), ("lora", 10**8))] == [
        1e-5,
        1e-4,
    ]
    assert [recommended_rate(STAGES["dpo"], tuning, 8 * 10**9) for tuning in ("full", "lora")] == [5e-7, 5e-6]
    assert recommended_rate(STAGES["sft"], "lora", 8 * 10**9) == 1e-4


FEW = ["24 rows make only 1 step"]


@pytest.mark.parametrize(
    ("keys", "rows", "held_out", "lines"),
    [
        ({"learning_rate": 1e-5, "val_size": 0.1}, 648, 72, []),
        ({"learning_rate": 1e-5, "gradient_accumulation_steps": 8}, 24, 0, FEW),
        ({"learning_rate": 1e-5, "per_device_train_batch_size": 64}, 24, 0, FEW),
        ({"learning_rate": 1e-5, "per_device_train_batch_size": 1}, 2, 0, ["2 rows make only 2 steps"]),
        ({"learning_rate": 1e-5, "max_steps": 4}, 648, 0, ["max_steps: 4 is a trial"]),
        ({"learning_rate": 1e-5, "warmup_steps": 100}, 648, 0, ["warmup_steps: 100 of 81 steps"]),
        ({"learning_rate": 1e-5, "warmup_steps": 100, "lr_scheduler_type": "constant"}, 648, 0, []),
        ({"learning_rate": 1e-5, "save_steps": 500}, 648, 0, ["save_steps: 500 of 81 steps"]),
        (
            {"learning_rate": 1e-5, "eval_steps": 82, "eval_strategy": "steps", "val_size": 0.1},
            648,
            72,
            ["eval_steps: 82 of 81 steps"],
        ),
        ({"learning_rate": 1e-5, "val_size": 1}, 648, 1, ["1 row held out"]),
        ({"learning_rate": 1e-3}, 648, 0, ["learning_rate: 0.001 is 100 times"]),
        ({"learning_rate": 1e-7}, 648, 0, ["learning_rate: 1e-07 is 1/100 of"]),
        ({"learning_rate": 1e-3, "finetuning_type": "lora"}, 648, 0, []),
        ({"learning_rate": 1e-6, "finetuning_type": "lora"}, 648, 0, ["learning_rate: 1e-06 is 1/100 of"]),
    ],
)
def test_each_warning_has_a_remedy_that_ends_it(
    keys: dict[str, Any], rows: int, held_out: int, lines: list[str]
) -> None:
    found = list(doubtful_settings(config(**keys), rows, held_out, parameters=135_000_000))
    assert [line.partition(";")[0][: len(start)] for line, start in zip(found, lines, strict=True)] == lines
    for line in found:
        remedy = line.rpartition("; ")[2]
        values = {key: float(value) for key, value in re.findall(r"(\w+): ([\d.e-]+)", remedy)}
        assert values
        gone = ("max_steps",) if line.startswith("max_steps") else ("warmup_steps",) if "warmup_ratio" in values else ()
        kept = {name: given for name, given in keys.items() if name not in gone}
        held = int(values.get("val_size", held_out))
        assert list(doubtful_settings(config(**{**kept, **values}), rows, held, parameters=135_000_000)) == []


def test_without_a_size_the_learning_rate_is_not_judged() -> None:
    assert list(doubtful_settings(config(learning_rate=1.0), 648, None)) == []


def test_only_a_rate_above_0_gets_this_far() -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        config(learning_rate=0)
