"""Experiment 7: equal budgets, and the whole of it on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import online
import pytest

from tiny_world import result_of


@pytest.fixture(scope="module")
def result(played: Path) -> dict[str, Any]:
    return result_of(online, "online", played, ["budgets=[12, 24]", "run_seeds=[0]"])


def test_both_spend_the_same_comparisons(result: dict[str, Any]) -> None:
    records = [cell["record"] for cell in result["cells"] if "points" in cell["record"]]
    assert [(record["method"], record["budget"]) for record in records] == [
        ("dpo", 12),
        ("online", 12),
        ("dpo", 24),
        ("online", 24),
    ]
    for record in records:
        assert record["generated"] == 2 * record["budget"]
        assert 0 < record["labels"] <= record["budget"]
    assert records[0]["labels"] < records[2]["labels"]


def test_rounds_keep_the_sft_model_as_reference(played: Path, result: dict[str, Any]) -> None:
    rounds = sorted((played / "online" / "cells").glob("online_0.1_seed_0_labels_24/rounds/round-?/run.json"))
    configs = [json.loads(path.read_text(encoding="utf-8"))["config"] for path in rounds]
    assert len(configs) == 2
    assert configs[1]["ref_model"] == configs[0]["model_name_or_path"]
    assert configs[1]["model_name_or_path"] == str(rounds[0].parent)


def test_table_and_figure_are_drawn_from_the_record_as_json(result: dict[str, Any]) -> None:
    kept = json.loads(json.dumps(result))
    table = online.tables(kept)["online-budgets"]
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| offline DPO", "| online DPO"] * 2
    assert set(online.figures(kept)) == {"online_budgets.svg"}
