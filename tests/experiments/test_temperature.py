"""Experiment 2: win rates by hand, and the whole of it on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import temperature

from palate.records import Message
from tiny_world import result_of


@pytest.fixture(scope="module")
def result(played: Path) -> dict[str, Any]:
    given = ["checkpoints=1", "strengths={dpo: 0.1, ppo-learned: 0.05}", "temperatures=[0.0, 0.25]"]
    return result_of(temperature, "temperature", played, given)


def test_wins_are_counted_with_ties_as_half() -> None:
    """Two wins, a tie and a loss: (2 + ½) / 4."""
    prompts = [(Message("user", "The plot was"),)] * 4
    found = temperature.rate_of_wins(prompts, [0.9, 0.5, 0.0, -0.5], [" awful.", " poor.", " long.", " bad."])
    # Rivals score −0.46, −0.48, 0 and −0.54, so the last is a win, too.
    assert found["estimate"] == 0.875
    assert (found["ties"], found["n"]) == (1, 4)
    lost = temperature.rate_of_wins(prompts, [0.9, 0.5, 0.0, -0.6], [" awful.", " poor.", " long.", " bad."])
    assert lost["estimate"] == 0.625
    assert 0 < lost["low"] < 0.625 < lost["high"] < 1


def test_every_model_meets_both_opponents_in_both_domains(result: dict[str, Any]) -> None:
    wins = {cell["record"]["method"]: cell["record"]["wins"] for cell in result["cells"] if "wins" in cell["record"]}
    assert set(wins) == {"dpo", "ppo-learned", "SFT model"}
    for rows in wins.values():
        assert [(row["domain"], row["temperature"]) for row in rows] == [
            (domain, temperature) for domain in ("films", "meals") for temperature in (0.0, 0.25)
        ]
        assert all(row[name]["n"] == 6 for row in rows for name in temperature.OPPONENTS)


def test_the_papers_figures_stand_beside_ours(result: dict[str, Any]) -> None:
    kept = json.loads(json.dumps(result))
    tables, figures = temperature.tables(kept), temperature.figures(kept)
    rows = [line.split(" | ") for line in tables["temperature-paper"].splitlines()[2:]]
    assert [row[-1].rstrip(" |") for row in rows] == ["0.36", "0.31", "0.26", "0.23", "–", "–"]
    assert tables["temperature-wins"].count("meals, another domain") == 6
    assert set(figures) == {"temperature_sft.svg", "temperature_reference.svg"}
