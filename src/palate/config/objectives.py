"""The objectives by name: look one up, fill in its options, refuse what it does not use."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from palate.config.objective_options import OPTIONS, Option
from palate.config.objective_table import OBJECTIVES, Objective
from palate.errors import ConfigError

__all__ = ["OBJECTIVES", "OPTIONS", "Objective", "Option", "objective", "resolve_options"]

# What users know an objective by elsewhere.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "dpo": "sigmoid",
        "cdpo": "sigmoid",
        "robust_dpo": "robust",
        "dpo_norm": "sigmoid_norm",
    }
)
OPTION_ALIASES: Mapping[str, str] = MappingProxyType({"label_smoothing": "dpo_label_smoothing", "beta": "pref_beta"})


def objective(name: str) -> Objective:
    """The objective of that name or alias; ConfigError with the nearest name otherwise."""
    word = name.strip().lower().replace("-", "_")
    word = ALIASES.get(word, word)
    if word in OBJECTIVES:
        return OBJECTIVES[word]
    near = difflib.get_close_matches(word, [*OBJECTIVES, *ALIASES], n=1)
    hint = f"did you mean {near[0]}?" if near else "`palate objectives` lists them"
    raise ConfigError(f"pref_loss: there is no objective {name!r}; {hint}")


def resolve_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of objective `name`, its modifiers' included, by config key: those given, defaults for the rest.

    None stands for a key left out. A key that the objective does not read is refused by name unless its value is the
    key's default, which changes nothing.
    """
    chosen = objective(name)
    values = _canonical(given)
    if chosen.name == "orpo":
        values = _orpo_weight(values)
    known = chosen.all_options
    for key, value in values.items():
        if key not in known and OPTIONS[key].read(key, value) != OPTIONS[key].default:
            raise ConfigError(
                f"{key}: {value} has no effect on pref_loss: {chosen.name}; {_users(key)}, or remove the key"
            )
    resolved = {
        key: option.read(key, values[key]) if key in values else option.default for key, option in known.items()
    }
    _check_together(values, resolved)
    return resolved


def _canonical(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were really given, under their own keys."""
    values: dict[str, Any] = {}
    for key, value in given.items():
        own = OPTION_ALIASES.get(key, key)
        if own not in OPTIONS:
            near = difflib.get_close_matches(key, [*OPTIONS, *OPTION_ALIASES], n=1)
            raise ConfigError(f"{key}: no objective has this option" + (f"; did you mean {near[0]}?" if near else ""))
        if value is None:
            continue
        if own in values and values[own] != value:
            raise ConfigError(f"{own}: given twice, as {values[own]} and (as an alias) {value}; keep one")
        values[own] = value
    return values


def _orpo_weight(values: dict[str, Any]) -> dict[str, Any]:
    """orpo has no β; peers put its λ there, so pref_beta is read as orpo_lambda."""
    beta = values.get("pref_beta")
    rest = {key: value for key, value in values.items() if key != "pref_beta"}
    if beta is not None and rest.setdefault("orpo_lambda", beta) != beta:
        raise ConfigError(
            f"pref_beta: {beta} means orpo's λ, and orpo_lambda: {rest['orpo_lambda']} says otherwise; keep one"
        )
    return rest


def _users(key: str) -> str:
    names = [row.name for row in OBJECTIVES.values() if key in row.all_options]
    return f"it is used by {', '.join(names)}"


def _check_together(given: Mapping[str, Any], resolved: Mapping[str, Any]) -> None:
    """Values that are each in range and make no sense together."""
    alpha = "f_alpha_divergence_coef"
    if (
        resolved.get("f_divergence_type") != "alpha"
        and resolved.get(alpha, OPTIONS[alpha].default) != OPTIONS[alpha].default
    ):
        raise ConfigError(
            f"{alpha}: {given[alpha]} has no effect without f_divergence_type: alpha; set that or remove the key"
        )
