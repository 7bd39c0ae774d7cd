"""The comparison of what overfits runs end to end on a tiny model, and its page is made of what it records."""

from __future__ import annotations

from pathlib import Path

import overfitting
import pytest
from _config import read_experiment_config

from palate.config.load import config_from_values, load_config
from palate.errors import DataError
from small import CONFIGS, check_table, made, small_data, small_model, truthy


def test_two_steps_of_every_run_on_a_tiny_model(tmp_path: Path) -> None:
    given = {
        "model": small_model(tmp_path / "model"),
        "data": small_data(tmp_path / "data"),
        "truthy": truthy(tmp_path),
        "pairs": 4,
        "held_out": 3,
        "questions": 4,
        "kl_prompts": 2,
        "batch": 2,
        "last_layers": 1,
        "max_new_tokens": 4,
        "max_steps": 2,
    }
    config = read_experiment_config(
        overfitting.Config, CONFIGS / "overfitting.yaml", [f"{key}={value}" for key, value in given.items()]
    )
    result = made(overfitting.cells(config, tmp_path / "work"), tmp_path / "work")
    cells = {cell["name"]: cell for cell in result["cells"]}
    full = cells["full"]["record"]
    assert full["accuracy"]["train"]["n"] == 4
    assert full["accuracy"]["held_out"]["n"] == 3
    assert full["knowledge"]["n"] == 4
    assert full["sampled"]["kl"]["estimate"] > 0
    assert cells["reference"]["record"]["sampled"]["kl"]["estimate"] == pytest.approx(0, abs=1e-6)
    assert cells[overfitting.TRUTHY]["settings"]["run"]["template"] == "phi2"
    assert not list((tmp_path / "work").rglob("run/*.safetensors"))
    tables = overfitting.tables(result)
    check_table(tables["overfitting"], rows=10)
    starts = [line.split(" | ")[0] for line in tables["overfitting"].splitlines()[2:4]]
    assert starts == ["| reference", "| reference, template phi2"]
    check_table(tables["overfitting_answers"], rows=10)
    check_table(tables["overfitting_knowledge"], rows=10)
    check_table(tables["overfitting_side_by_side"], rows=6)
    heading = tables["overfitting_side_by_side"].splitlines()[0]
    assert heading.startswith("| index | Prompt | full Model Output | ")
    assert heading.endswith("| Reference Model Output |")
    for figure in overfitting.figures(result).values():
        assert figure.startswith("<svg xmlns=")
        assert "full, dropout 0.1" in figure


def test_every_run_is_a_config(tmp_path: Path) -> None:
    config = overfitting.Config(truthy=str(truthy(tmp_path)))
    runs = {name: {**overfitting.recipe(config), **changes} for name, changes in overfitting.variants(config).items()}
    runs[overfitting.TRUTHY] = overfitting.truthy_recipe(config)
    for name, run in runs.items():
        loaded = config_from_values({"model_name_or_path": "m", "dataset": "d", "output_dir": "o", **run}, origin=name)
        assert not loaded.notices, name


def test_the_known_trial_loads_and_keeps_its_recipe(shared_configs: Path) -> None:
    path = shared_configs / "truthy_dpo_phi2.yaml"
    loaded = load_config(path).config
    assert loaded.template == "phi2"
    run = overfitting.truthy_recipe(overfitting.Config(truthy=str(path)))
    expected = {
        "pref_beta": 0.2,
        "learning_rate": 5e-7,
        "per_device_train_batch_size": 4,
        "cutoff_len": 512,
        "num_train_epochs": 1.0,
        "seed": 2003,
        "template": "phi2",
        "finetuning_type": "full",
    }
    assert {key: run[key] for key in expected} == expected


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    config = overfitting.Config(data=str(tmp_path / "nowhere"), truthy=str(truthy(tmp_path)))
    with pytest.raises(DataError, match=r"truthfulqa_mc_task.json is missing: it is looked for at .*nowhere"):
        overfitting.cells(config, tmp_path)
    config = overfitting.Config(data=str(small_data(tmp_path / "data")), truthy=str(tmp_path / "nothing.yaml"))
    with pytest.raises(DataError, match=r"nothing.yaml is missing: it is looked for at"):
        overfitting.cells(config, tmp_path)
