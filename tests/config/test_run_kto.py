"""Stage kto's config: its objectives, its keys, and nothing of the other stages'."""

from __future__ import annotations

from typing import Any

import pytest

from palate.config.load import config_from_values
from palate.config.objectives.lookup import OBJECTIVES
from palate.config.run import KtoConfig
from palate.errors import ConfigError

BASE: dict[str, Any] = {"stage": "kto", "model_name_or_path": "model", "dataset": "rows.jsonl", "output_dir": "runs/a"}


def kto(**values: Any) -> KtoConfig:
    config = config_from_values({**BASE, **values}).config
    assert isinstance(config, KtoConfig)
    return config


def test_defaults_are_those_of_the_objective() -> None:
    config = kto()
    assert (config.pref_loss, config.learning_rate) == ("kto", 1e-6)
    assert config.objective_options["pref_beta"] == 0.1
    assert config.resolved()["kto_chosen_weight"] == 1.0


@pytest.mark.parametrize("name", [row.name for row in OBJECTIVES.values() if row.family == "unpaired"])
def test_every_option_of_its_objectives_is_a_key(name: str) -> None:
    assert set(OBJECTIVES[name].all_options) <= set(KtoConfig.objective_keys())
    assert kto(pref_loss=name, kto_rejected_weight=2.0).objective_options["kto_rejected_weight"] == 2.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pref_loss": "sigmoid"}, "sigmoid learns from pairs; write stage: dpo"),
        ({"pref_loss": "bradley_terry"}, "write stage: rm"),
        ({"dpop_lambda": 3}, "dpop_lambda belongs to stage dpo, but this config says stage: kto"),
        ({"kto_chosen_weight": -1}, "kto_chosen_weight must be at least 0, not -1"),
    ],
)
def test_what_does_not_belong_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kto(**values)
    assert words in str(caught.value)
