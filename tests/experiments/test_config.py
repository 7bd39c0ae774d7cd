"""Values that an experiment cannot be made of are refused before anything is made, in one line."""

from __future__ import annotations

from types import ModuleType

import online
import pytest
import sentiment
import sweeps
import temperature
from _config import read_experiment_config

from palate.errors import ConfigError
from tiny_world import CONFIGS


@pytest.mark.parametrize(
    ("module", "given", "told"),
    [
        (sentiment, "sedes=1", "--set: unknown key sedes; did you mean seeds?"),
        (sentiment, "seeds={dpo: [0]}", "sentiment.yaml: seeds: ipo is missing, and there is no other"),
        (sentiment, "strengths={dpoo: [0.1]}", "strengths: dpoo is no method; there are dpo, ipo"),
        (sentiment, "learning_rates={dpo: 1.0e-4}", "learning_rates: ipo is missing"),
        (sentiment, "labels=2000", "labels 2000 and held_out_labels 256 need a prompt each, and there are 2048"),
        (temperature, "learning_rates={dpo: 1.0, ppo: 1.0, ppo-learned: 1.0}", "learning_rates: rm is missing"),
        (temperature, "strengths={sgd: 1.0}", "strengths: sgd is no method"),
        (online, "budgets=[256, 2048]", "budgets: 2048 is above labels 1024"),
        (sweeps, "losses=[sigmoid, hinge]", "losses: hinge is none of sigmoid, cdpo, robust, ipo"),
    ],
)
def test_one_line_says_what_to_change(module: ModuleType, given: str, told: str) -> None:
    path = CONFIGS / f"{module.__name__}.yaml"
    assert read_experiment_config(module.Config, path).resolved()
    with pytest.raises(ConfigError) as refused:
        read_experiment_config(module.Config, path, [given])
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "Value error" not in str(refused.value)
