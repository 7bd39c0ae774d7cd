"""Starts and sets: every run ends to end on a tiny model, measured against what it started from."""

from __future__ import annotations

from pathlib import Path

import pytest
import starts
from _config import read_experiment_config

from palate.config.load import config_from_values
from palate.errors import DataError
from small import CONFIGS, check_table, made, small_data, small_model


def test_two_steps_of_every_run_on_a_tiny_model(tmp_path: Path) -> None:
    given = {
        "model": small_model(tmp_path / "model"),
        "data": small_data(tmp_path / "data"),
        "sets": "{hh: preference/hh_harmless_base_test.jsonl.gz, plain: preference/plain.jsonl}",
        "pairs": 4,
        "held_out": 3,
        "set_pairs": 4,
        "set_held_out": 3,
        "kl_prompts": 2,
        "batch": 2,
        "layers": 1,
        "max_new_tokens": 4,
        "max_steps": 2,
    }
    config = read_experiment_config(
        starts.Config, CONFIGS / "starts.yaml", [f"{key}={value}" for key, value in given.items()]
    )
    result = made(starts.cells(config, tmp_path / "work"), tmp_path / "work")
    cells = {cell["name"]: cell["record"] for cell in result["cells"]}
    assert cells["start none"]["accuracy"]["margin"]["estimate"] == 0
    assert cells["start longer"]["accuracy"]["margin"]["estimate"] != 0
    before = cells["start short"]["accuracy"]["policy_mean"], cells["dpo from short"]["on"]["palate-demo"]
    assert before[0] == before[1]["reference_mean"]
    assert set(cells["dpo on hh"]["on"]) == {"palate-demo", "hh", "plain"}
    assert "from_first" in cells["dpo from short"]
    assert "from_first" not in cells["dpo from none"]
    tables = starts.tables(result)
    check_table(tables["starts"], rows=3)
    check_table(tables["starts_answers"], rows=6)
    check_table(tables["starts_sets"], rows=3)
    check_table(tables["starts_cross"], rows=3)
    for figure in starts.figures(result).values():
        assert figure.startswith("<svg xmlns=")


def test_every_run_is_a_config_and_no_set_is_for_evaluation_only() -> None:
    config = starts.Config()
    for stage in ("sft", "dpo"):
        run = {"model_name_or_path": "m", "dataset": "d", "output_dir": "o", **starts.recipe(config, stage)}
        assert not config_from_values(run).notices
    assert len(config.sets) >= 3
    assert not [path for path in config.sets.values() if "pku" in path or "alpacaeval" in path]


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hh_harmless_base_test.jsonl.gz is missing: it is looked for at"):
        starts.cells(starts.Config(data=str(tmp_path)), tmp_path)
