"""Names, options and refusals of the objectives' table. That the functions agree: tests/objectives/test_tables.py."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts.markdown import BEGIN, END, with_generated
from palate.config.objectives.docs import markdown_table, plain
from palate.config.objectives.lookup import (
    ALIASES,
    ELSEWHERE,
    OBJECTIVES,
    OPTIONS,
    objective,
    resolve_mixture,
    resolve_options,
)
from palate.errors import ConfigError

WEIGHTS = {"helpful": 0.7, "safe": 0.3}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_name_finds_its_row(name: str) -> None:
    assert objective(name).name == name


def test_names_as_they_are_known_elsewhere() -> None:
    assert {alias: objective(alias).name for alias in ALIASES} == dict(ALIASES)
    assert objective(" R-DPO ").name == "r_dpo"
    assert objective("kto_pair").name == "kto_pair"
    assert not set(ALIASES) & set(OBJECTIVES)
    assert not set(ELSEWHERE) & (set(OBJECTIVES) | set(ALIASES))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simgoid", "there is no objective 'simgoid'; did you mean sigmoid?"),
        ("ipo_sum", "write pref_loss: ipo and ipo_logps: sum"),
        ("sft", "pref_ftx: WEIGHT"),
        ("grpo", "write stage: grpo"),
        ("zzz", "`palate objectives` lists them"),
    ],
)
def test_an_unknown_name_is_refused_with_help(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        objective(name)
    assert str(caught.value).startswith("pref_loss: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("sigmoid", {"pref_beta": 0.1, "dpo_label_smoothing": 0.0, "pref_ftx": 0.0, "f_divergence_type": "reverse_kl"}),
        ("sigmoid_norm", {"pref_beta": 5.0}),
        ("simpo", {"pref_beta": 2.0, "simpo_gamma": 1.0}),
        ("exo_pair", {"dpo_label_smoothing": 1e-3}),
        ("ipo", {"ipo_logps": "mean"}),
        ("dpop", {"dpop_lambda": 50.0}),
        ("cpo", {"cpo_alpha": 1.0}),
        ("orpo", {"orpo_lambda": 0.1}),
        ("discopop", {"discopop_tau": 0.05}),
        ("kto", {"kto_chosen_weight": 1.0, "kto_rejected_weight": 1.0}),
    ],
)
def test_defaults(name: str, defaults: dict[str, Any]) -> None:
    resolved = resolve_options(name, dict.fromkeys(defaults))  # None: as if left out
    assert {key: resolved[key] for key in defaults} == defaults
    assert set(resolved) == set(objective(name).all_options)


def test_given_values_are_kept_in_their_type() -> None:
    resolved = resolve_options("sigmoid", {"pref_beta": 1, "f_divergence_type": "js_divergence", "use_weighting": True})
    assert (resolved["pref_beta"], resolved["f_divergence_type"], resolved["use_weighting"]) == (1.0, "js", True)
    assert isinstance(resolved["pref_beta"], float)


def test_beta_is_lambda_for_orpo() -> None:
    assert resolve_options("orpo", {"pref_beta": 0.3}) == {"orpo_lambda": 0.3}
    assert resolve_options("orpo", {"pref_beta": 0.3, "orpo_lambda": 0.3}) == {"orpo_lambda": 0.3}
    with pytest.raises(ConfigError, match=r"^pref_beta: 0\.3 means λ for orpo"):
        resolve_options("orpo", {"pref_beta": 0.3, "orpo_lambda": 0.1})


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("sigmoid", {"pref_beta": 0}, "pref_beta must be above 0, not 0"),
        ("sigmoid", {"pref_beta": "0.1"}, "pref_beta must be a number, not 0.1"),
        ("sigmoid", {"pref_beta": True}, "pref_beta must be a number, not true"),
        ("sigmoid", {"pref_beta": float("nan")}, "pref_beta must be a finite number, not nan"),
        ("robust", {"dpo_label_smoothing": 0.5}, "dpo_label_smoothing must be below 0.5, not 0.5"),
        ("exo_pair", {"dpo_label_smoothing": 0}, "dpo_label_smoothing must be above 0, not 0"),
        ("discopop", {"discopop_tau": 1.5}, "discopop_tau must be at most 1, not 1.5"),
        ("ipo", {"ipo_logps": "median"}, "ipo_logps must be mean or sum, not median"),
        ("sigmoid", {"use_weighting": "yes"}, "use_weighting must be true or false, not yes"),
        ("hinge", {"dpo_label_smoothing": 0.1}, "an objective that uses it: sigmoid, robust, sigmoid_norm, exo_pair"),
        ("aot", {"use_weighting": True}, "use_weighting: True has no effect on pref_loss: aot"),
        ("sigmoid_norm", {"ld_alpha": 0.5}, "ld_alpha: 0.5 has no effect on pref_loss: sigmoid_norm"),
        ("simpo", {"kl_coef": 0.1}, "kl_coef: 0.1 has no effect on pref_loss: simpo"),
        ("sigmoid", {"f_alpha_divergence_coef": 0.7}, "has no effect without f_divergence_type: alpha"),
        ("multi_soft", {}, "dimension_weights: missing; pref_loss: multi_soft needs it"),
        ("multi_soft", {"dimension_weights": {"a": 0.5, "b": 0.6}}, "the weights sum to 1.1, not 1"),
        ("multi_soft", {"dimension_weights": {"a": -0.5, "b": 1.5}}, "the weight of a, -0.5, must be a number from 0"),
        ("multi_soft", {"dimension_weights": [0.5, 0.5]}, "dimension_weights must map dimensions to their weights"),
        ("multi_margin", {"dimension_weights": WEIGHTS}, "dimension: missing"),
        ("multi_margin", {"dimension_weights": WEIGHTS, "dimension": "brief"}, "choose one of helpful, safe"),
        ("multi_margin", {"dimension_weights": {"a": 1, "b": 0}, "dimension": "b"}, "choose one of a"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_options(name, given)
    assert message in str(caught.value)
    assert re.split(r"\W", str(caught.value))[0] in {*given, "dimension", "dimension_weights"}
    assert "\n" not in str(caught.value)


def test_an_option_at_its_default_is_no_harm() -> None:
    resolved = resolve_options("hinge", {"dpo_label_smoothing": 0.0, "simpo_gamma": 1, "use_weighting": False})
    assert "simpo_gamma" not in resolved


def test_options_become_arguments_of_the_function() -> None:
    row = objective("multi_margin")
    options = resolve_options("multi_margin", {"dimension_weights": WEIGHTS, "dimension": "safe", "pref_beta": 0.2})
    assert row.arguments(options) == {"beta": 0.2, "weights": (0.7, 0.3), "dimension": 1}
    row = objective("sigmoid")
    modifiers = row.modifier_arguments(resolve_options("sigmoid", {"pref_ftx": 0.5, "ld_alpha": 0.3}))
    assert (modifiers["sft"], modifiers["ld_alpha"], modifiers["weighting"]) == (0.5, 0.3, False)


def test_what_the_trainer_asks_once_options_are_known() -> None:
    ipo = objective("ipo")
    assert ipo.averages(resolve_options("ipo", {}))
    assert not ipo.averages(resolve_options("ipo", {"ipo_logps": "sum"}))
    sigmoid = objective("sigmoid")
    assert not sigmoid.couples(resolve_options("sigmoid", {}))
    assert sigmoid.couples(resolve_options("sigmoid", {"pref_bco_weight": 0.1}))
    assert objective("aot").couples(resolve_options("aot", {}))
    scales = {name: objective(name).reward_scale(resolve_options(name, {})) for name in ("simpo", "orpo", "rrhf")}
    assert scales == {"simpo": 2.0, "orpo": 0.1, "rrhf": 1.0}


def test_a_mixture_gives_each_member_its_options() -> None:
    mixed = resolve_mixture({"sigmoid": 0.8, "bco-pair": 0.2}, {"dpo_label_smoothing": 0.1, "pref_ftx": 1.0})
    assert mixed["sigmoid"]["dpo_label_smoothing"] == 0.1
    assert "dpo_label_smoothing" not in mixed["bco_pair"]
    assert mixed["sigmoid"]["pref_ftx"] == mixed["bco_pair"]["pref_ftx"] == 1.0


@pytest.mark.parametrize(
    ("weights", "given", "message"),
    [
        ({"sigmoid": 0.5, "nca_pair": 0.5}, {"f_divergence_type": "js"}, "has no effect on pref_loss: nca_pair"),
        ({"sigmoid": 0.5, "hinge": 0.5}, {"simpo_gamma": 0.3}, "simpo_gamma: 0.3 has no effect"),
        ({"sigmoid": 0.5, "kto": 0.5}, {}, "only objectives on pairs can be mixed, and kto"),
        ({"sigmoid": 0.5, "dpo": 0.5}, {}, "is named twice"),
        ({"sigmoid": 0, "hinge": 1}, {}, "the weight of sigmoid, 0, must be a number above 0"),
    ],
)
def test_a_mixture_that_does_not_fit_is_refused(weights: dict[str, float], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_mixture(weights, given)
    assert message in str(caught.value)


def test_the_page_is_current(repository: Path) -> None:
    page = (repository / "docs" / "objectives.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    assert with_generated(page, markdown_table()) == page, (
        "docs/objectives.md is out of date: run `python -m palate.config.objectives.docs docs/objectives.md`"
    )


def test_the_table_has_every_objective_and_option() -> None:
    table = markdown_table()
    for name, row in OBJECTIVES.items():
        assert f"| `{name}` | {row.formula.replace('|', chr(92) + '|')} |" in table
    assert all(f"| `{key}` |" in table for key in OPTIONS)


def test_a_row_is_json() -> None:
    value = json.loads(json.dumps(plain(objective("sigmoid_norm"))))
    assert value["options"]["pref_beta"] == {
        "default": 5.0,
        "range": "(0, ∞)",
        "required": False,
        "doc": OPTIONS["pref_beta"].doc,
    }
    assert value["loss_at_start"] == pytest.approx(0.6931472)


def test_the_table_needs_no_torch() -> None:
    code = "import sys, palate.config.objectives.docs as o; o.markdown_table(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
