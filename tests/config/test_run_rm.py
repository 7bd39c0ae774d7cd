"""Stage rm's config: what a reward model learns from."""

from __future__ import annotations

from typing import Any

import pytest

from palate.config.load import config_from_values
from palate.config.objectives.lookup import OBJECTIVES
from palate.config.run import RmConfig
from palate.errors import ConfigError

BASE: dict[str, Any] = {"stage": "rm", "model_name_or_path": "model", "dataset": "rows.jsonl", "output_dir": "runs/a"}


def rm(**values: Any) -> RmConfig:
    config = config_from_values({**BASE, **values}).config
    assert isinstance(config, RmConfig)
    return config


def test_choices_are_the_default_and_margins_are_asked_for() -> None:
    config = rm()
    assert (config.pref_loss, config.margin_weight) == ("bradley_terry", 0.0)
    assert config.objective_options == {"center_rewards_coefficient": 0.0}
    assert rm(margin_weight=1).margin_weight == 1.0


@pytest.mark.parametrize("name", [row.name for row in OBJECTIVES.values() if row.family == "reward"])
def test_every_option_of_its_objectives_is_a_key(name: str) -> None:
    assert set(OBJECTIVES[name].all_options) <= set(RmConfig.objective_keys())
    assert rm(pref_loss=name).pref_loss == name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pref_loss": "sigmoid"}, "write stage: dpo"),
        ({"pref_loss": "reward_regression", "center_rewards_coefficient": 0.01}, "has no effect"),
        ({"pref_loss": "reward_plackett_luce", "margin_weight": 0.5}, "margin_weight: 0.5 has no effect"),
        ({"ref_model": "other"}, "ref_model belongs to stage dpo or kto"),
    ],
)
def test_what_does_not_belong_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rm(**values)
    assert words in str(caught.value)
