"""Stage sft's config: which turns are trained."""

from __future__ import annotations

from typing import Any

import pytest

from palate.config.load import config_from_values
from palate.config.run import SftConfig
from palate.errors import ConfigError

BASE: dict[str, Any] = {"stage": "sft", "model_name_or_path": "model", "dataset": "rows.jsonl", "output_dir": "runs/a"}


def sft(**values: Any) -> SftConfig:
    config = config_from_values({**BASE, **values}).config
    assert isinstance(config, SftConfig)
    return config


def test_every_answer_is_trained_unless_the_history_is_masked() -> None:
    assert (sft().mask_history, sft().train_on_prompt) == (False, False)
    assert sft(mask_history=True).mask_history
    assert sft(train_on_prompt=True).train_on_prompt


def test_the_two_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="mask_history and train_on_prompt contradict each other"):
        sft(mask_history=True, train_on_prompt=True)
