"""The SmolLM recipe runs end to end on a tiny model, and its record holds no text of the offensive pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import recipe
from _config import read_experiment_config

from palate.config.load import config_from_values
from palate.errors import DataError
from small import CONFIGS, check_table, made, small_data, small_model


def test_two_steps_of_every_run_on_a_tiny_model(tmp_path: Path) -> None:
    given = {
        "model": small_model(tmp_path / "model"),
        "data": small_data(tmp_path / "data"),
        "strong": 20,
        "pairs": 6,
        "held_out": 4,
        "layers": 1,
        "batch": 2,
        "max_new_tokens": 4,
        "max_steps": 2,
    }
    config = read_experiment_config(
        recipe.Config, CONFIGS / "recipe.yaml", [f"{key}={value}" for key, value in given.items()]
    )
    result = made(recipe.cells(config, tmp_path / "work"), tmp_path / "work")
    counts = result["cells"][0]["record"]
    assert counts["train"]["pairs"] == 6
    assert counts["funnel"][-1]["left"] == counts["strong"]
    first = result["cells"][2]
    assert first["settings"]["run"]["pref_loss"] == "sigmoid_norm"
    assert 0 < first["record"]["parameters"]["trainable"] < first["record"]["parameters"]["all"]
    tables = recipe.tables(result)
    check_table(tables["recipe_funnel"], rows=len(counts["funnel"]) + 2)
    check_table(tables["recipe"], rows=4)
    check_table(tables["recipe_cost"], rows=3)
    check_table(tables["recipe_answers"], rows=6)
    assert "Reference Accuracy" in tables["recipe"]
    assert "Policy Accuracy: means, β 0.8 (the recipe)" in tables["recipe"]
    assert recipe.figures(result)["recipe.svg"].startswith("<svg xmlns=")
    trained = (tmp_path / "work" / "cells" / "pairs" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    answer = json.loads(trained[0])["chosen"][0]["content"]
    assert answer not in json.dumps(result, ensure_ascii=False)


def test_every_run_is_the_recipe_but_for_its_name() -> None:
    runs = recipe.runs(recipe.Config())
    for name, run in runs.items():
        loaded = config_from_values({"model_name_or_path": "m", "dataset": "d", "output_dir": "o", **run}, origin=name)
        assert not loaded.notices, name
    known = {"learning_rate": 1e-4, "weight_decay": 1e-2, "per_device_train_batch_size": 8, "cutoff_len": 512}
    known |= {"freeze_trainable_layers": 5, "freeze_extra_modules": ["lm_head"]}
    assert all({key: run[key] for key in known} == known for run in runs.values())
    losses = [(run["pref_loss"], run["pref_beta"]) for run in runs.values()]
    assert losses == [("sigmoid_norm", 0.8), ("sigmoid_norm", 0.1), ("sigmoid", 0.8)]


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hh_harmless_base_test.jsonl.gz is missing: it is looked for at"):
        recipe.cells(recipe.Config(data=str(tmp_path)), tmp_path)
