"""`palate objectives` lists all and shows one."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from palate.cli.objectives import command
from palate.config.objectives import OBJECTIVES
from palate.errors import ConfigError

app = typer.Typer()
app.command()(command)


def output(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert outcome.exit_code == 0
    return outcome.stdout


def test_all_are_listed_with_their_summary() -> None:
    lines = output().splitlines()
    for row in OBJECTIVES.values():
        assert any(line.split() == [row.name, *row.summary.split()] for line in lines)


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
    assert [row["name"] for row in json.loads(output("--json"))["objectives"]] == list(OBJECTIVES)


def test_an_unknown_name_is_an_error_that_the_command_line_prints() -> None:
    with pytest.raises(ConfigError, match="did you mean sigmoid"):
        output("sigmod")
