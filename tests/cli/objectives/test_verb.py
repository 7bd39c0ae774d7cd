"""`palate objectives` lists all and shows one."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from palate.cli.main import app
from palate.config.objectives.lookup import OBJECTIVES
from palate.config.objectives.online import ONLINE_OBJECTIVES
from palate.config.run import STAGES
from palate.errors import ConfigError


def output(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, ["objectives", *arguments], catch_exceptions=False)
    assert outcome.exit_code == 0
    return outcome.stdout


def test_all_are_listed_with_their_summary() -> None:
    lines = output().splitlines()
    for row in OBJECTIVES.values():
        assert any(line.split() == [row.name, *row.summary.split()] for line in lines)


def test_the_list_has_formula_reference_and_options() -> None:
    lines = [line.strip() for line in output().splitlines()]
    for row in (*OBJECTIVES.values(), *ONLINE_OBJECTIVES.values()):
        assert row.formula in lines
    assert "needs a reference; pref_beta 2, simpo_gamma 1" not in lines
    assert "needs no reference; pref_beta 2, simpo_gamma 1" in lines
    assert "needs no reference; no options of its own" in lines  # rrhf


def test_the_full_list_is_each_of_them() -> None:
    text = output("--full")
    for name in (*OBJECTIVES, *ONLINE_OBJECTIVES):
        assert output(name).strip() in text


def test_the_online_ones_name_options_of_their_stage() -> None:
    for row in ONLINE_OBJECTIVES.values():
        stage = STAGES["ppo" if row.name == "ppo" else "grpo"]
        assert set(row.options) <= set(stage.model_fields)
        assert row.choice in output(row.name)
        assert json.loads(output(row.name, "--json"))["options"] == list(row.options)


def test_one_is_shown_with_formula_options_and_start() -> None:
    text = output("exo")
    assert text.startswith("exo_pair: ")
    assert OBJECTIVES["exo_pair"].formula in text
    assert "dpo_label_smoothing  0.001, in (0, 0.5): " in text
    assert "2.7612, with the defaults" in text
    assert "f_divergence_type" in text.split("modifiers:")[1]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_can_be_shown(name: str) -> None:
    assert output(name).startswith(f"{name}: ")
    assert json.loads(output(name, "--json"))["name"] == name


def test_json_of_all() -> None:
    rows = json.loads(output("--json"))["objectives"]
    assert [row["name"] for row in rows] == [*OBJECTIVES, *ONLINE_OBJECTIVES]
    assert rows[-1]["family"] == "online"


def test_an_unknown_name_is_an_error_that_the_command_line_prints() -> None:
    with pytest.raises(ConfigError, match="did you mean sigmoid"):
        output("sigmod")
