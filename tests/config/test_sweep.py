"""Which runs a sweep is, and what is said of one that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.config.load import load_config
from palate.config.sweep import Sweep, is_sweep, load_sweep, point_name
from palate.errors import ConfigError
from runs import config_file

BASE: dict[str, Any] = {
    "stage": "dpo",
    "model_name_or_path": "model",
    "dataset": "pairs.jsonl",
    "output_dir": "runs/out",
    "pref_beta": 0.3,
}


def sweep(folder: Path, value: Any, *overrides: str, **changed: Any) -> Sweep:
    return load_sweep(config_file(folder / "sweep.yaml", {**BASE, **changed, "sweep": value}), overrides)


def test_every_combination_the_last_key_fastest(tmp_path: Path) -> None:
    found = sweep(tmp_path, {"pref_beta": [0.1, 0.5], "seed": [1, 2]})
    assert [(point.config.pref_beta, point.config.seed) for point in found.points] == [
        (0.1, 1),
        (0.1, 2),
        (0.5, 1),
        (0.5, 2),
    ]
    assert found.keys == ("pref_beta", "seed")
    assert [point.name for point in found.points][1] == "pref_beta-0.1_seed-2"
    assert Path(found.points[1].config.output_dir) == Path("runs/out/pref_beta-0.1_seed-2")


def test_a_list_is_just_these_points(tmp_path: Path) -> None:
    found = sweep(tmp_path, [{"pref_loss": "ipo"}, {"pref_loss": "sigmoid", "pref_beta": 0.2}])
    assert [(point.config.pref_loss, point.config.pref_beta) for point in found.points] == [
        ("ipo", 0.3),
        ("sigmoid", 0.2),
    ]


def test_mappings_and_paths_make_names_that_are_folders(tmp_path: Path) -> None:
    weights = [{"helpful": 1.0, "safe": 0.0}, {"helpful": 0.5, "safe": 0.5}]
    found = sweep(tmp_path, {"dimension_weights": weights}, pref_loss="multi_soft")
    assert found.points[1].name == "dimension_weights-helpful-0.5-safe-0.5"
    assert dict(found.points[1].config.dimension_weights or {}) == weights[1]
    names = [point_name({"dataset": path}) for path in ("a/b.jsonl", "a-b.jsonl", "../b.jsonl", "é", "x" * 300)]
    assert len(set(names)) == 5
    assert all("/" not in name and not name.startswith(".") and len(name) < 100 for name in names)


def test_a_value_that_is_added_renames_nothing(tmp_path: Path) -> None:
    before = {point.name for point in sweep(tmp_path, {"seed": [1, 2]}).points}
    assert before < {point.name for point in sweep(tmp_path, {"seed": [0, 1, 2, 3]}).points}


def test_another_trainers_key_is_swept_by_its_own_name(tmp_path: Path) -> None:
    found = sweep(tmp_path, {"label_smoothing": [0.1, 0.2]})
    assert [point.config.dpo_label_smoothing for point in found.points] == [0.1, 0.2]
    assert "label_smoothing is read as dpo_label_smoothing" in found.notices


def test_a_config_is_swept_from_the_command_line(tmp_path: Path) -> None:
    path = config_file(tmp_path / "run.yaml", BASE)
    override = "sweep={learning_rate: [1e-6, 5e-6]}"
    assert not is_sweep(path)
    assert is_sweep(path, [override])
    found = load_sweep(path, ["seed=7", override])
    assert [(point.config.learning_rate, point.config.seed) for point in found.points] == [(1e-6, 7), (5e-6, 7)]


@pytest.mark.parametrize(
    ("value", "changed", "said"),
    [
        ({"pref_beta": 0.1}, {}, "pref_beta needs a list of values, e.g. pref_beta: [0.1, …]"),
        ({"pref_beta": []}, {}, "pref_beta needs a list of values"),
        ({}, {}, "takes keys with lists of values"),
        ("pref_beta", {}, "takes keys with lists of values"),
        ({"pref_beta": [0.1, 0.1]}, {}, "point 2 (pref_beta: 0.1) occurs twice"),
        ({"output_dir": ["a", "b"]}, {}, "output_dir cannot be swept"),
        ({"stage": ["dpo", "kto"]}, {}, "stage cannot be swept"),
        ({"pref_bta": [0.1]}, {}, "point 1: unknown key pref_bta; did you mean pref_beta?"),
        ({"pref_beta": [0.1, -1]}, {}, "point 2"),
        ({"seed": [1]}, {"stages": [{"stage": "sft"}]}, "sweep and stages cannot both be given"),
        ({"seed": [1]}, {"output_dir": None}, "output_dir"),
        ({"seed": [1]}, {"overwrite_output_dir": "nein"}, "overwrite_output_dir: nein must be true or false"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_line(
    tmp_path: Path, value: Any, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        sweep(tmp_path, value, **changed)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_one_run_is_not_many(tmp_path: Path) -> None:
    path = config_file(tmp_path / "sweep.yaml", {**BASE, "sweep": {"seed": [1]}})
    with pytest.raises(ConfigError, match="sweep makes several runs"):
        load_config(path)
