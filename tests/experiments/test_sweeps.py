"""Experiment 5: flipped labels by hand, and the whole of it on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sweeps

from tiny_world import result_of


@pytest.fixture(scope="module")
def result(played: Path) -> dict[str, Any]:
    given = ["betas=[0.1]", "sweep_learning_rates=[3.0e-4]", "noise=[0.0, 0.4]", "losses=[robust, ipo]"]
    return result_of(sweeps, "sweeps", played, given)


def test_a_share_of_the_labels_is_flipped_and_more_noise_flips_more_of_the_same() -> None:
    rows = [{"chosen": f"a{n}", "rejected": f"b{n}", "margin": 0.5} for n in range(50)]
    some, most = (sweeps.flip(rows, share, seed=1) for share in (0.2, 0.4))
    wrong = {n for n, row in enumerate(some) if row["chosen"] == f"b{n}" and row["rejected"] == f"a{n}"}
    assert len(wrong) == 10
    assert all(some[n]["margin"] == -0.5 for n in wrong)
    assert [row for n, row in enumerate(some) if n not in wrong] == [
        row for n, row in enumerate(rows) if n not in wrong
    ]
    assert wrong < {n for n, row in enumerate(most) if row["chosen"] == f"b{n}"}
    assert sweeps.flip(rows, 0.0, seed=1) == rows


def test_what_sweeps_share_is_made_once_and_noise_is_in_the_training_pairs_alone(result: dict[str, Any]) -> None:
    records = [cell["record"] for cell in result["cells"] if "loss" in cell["record"]]
    assert [(record["loss"], record["noise"]) for record in records] == [
        ("robust", 0.0),
        ("robust", 0.4),
        ("ipo", 0.0),
        ("ipo", 0.4),
    ]
    for record in records:
        assert record["flipped"] == round(record["noise"] * record["pairs"])
        assert 0 <= record["accuracy"]["implied"]["estimate"] <= 1
    clean, noisy = records[:2]
    assert clean["accuracy"]["reference"] == noisy["accuracy"]["reference"]


def test_the_losses_are_what_their_names_say(played: Path, result: dict[str, Any]) -> None:
    folder = played / "sweeps" / "cells"
    for cell in result["cells"][2:]:
        name = cell["name"].replace(" ", "_")
        config = json.loads((folder / name / "run" / "run.json").read_text(encoding="utf-8"))["config"]
        assert config["pref_loss"] == cell["record"]["loss"]
        assert config.get("dpo_label_smoothing") == (0.2 if config["pref_loss"] == "robust" else None)


def test_tables_and_figure_are_drawn_from_the_record_as_json(result: dict[str, Any]) -> None:
    kept = json.loads(json.dumps(result))
    tables = sweeps.tables(kept)
    assert set(tables) == {"sweeps-beta", "sweeps-learning-rate", "sweeps-noise"}
    assert [line.split(" | ")[1] for line in tables["sweeps-noise"].splitlines()[2:]] == ["0 %", "40 %"] * 2
    assert set(sweeps.figures(kept)) == {"sweeps_noise.svg"}
