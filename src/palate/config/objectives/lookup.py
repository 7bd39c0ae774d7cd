"""The objectives by name: look one up, fill in its options, refuse what it does not use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from palate.config.objectives.docs import markdown_table
from palate.config.objectives.options import OPTIONS, Option
from palate.config.objectives.row import LOG2
from palate.config.objectives.table import OBJECTIVES, Objective
from palate.errors import ConfigError

__all__ = [
    "OBJECTIVES",
    "OPTIONS",
    "Member",
    "Objective",
    "Option",
    "loss_at_start",
    "markdown_table",
    "objective",
    "resolve_mixture",
    "resolve_options",
]

# What users know an objective by elsewhere.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "dpo": "sigmoid",
        "cdpo": "sigmoid",
        "robust_dpo": "robust",
        "rdpo": "r_dpo",
        "slic": "hinge",
        "dpo_norm": "sigmoid_norm",
        "exo": "exo_pair",
        "nca": "nca_pair",
        "sppo": "sppo_hard",
        "dpo_positive": "dpop",
        "listwise": "plackett_luce",
        "modpo": "multi_margin",
    }
)
OPTION_ALIASES: Mapping[str, str] = MappingProxyType({"label_smoothing": "dpo_label_smoothing", "beta": "pref_beta"})

# Names that are known elsewhere and are not an objective here, with what to write instead.
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "ipo_sum": "write pref_loss: ipo and ipo_logps: sum",
        "ipo_mean": "write pref_loss: ipo and ipo_logps: mean",
        "sft": "an SFT term beside any objective is pref_ftx: WEIGHT; SFT alone is stage: sft",
        "wpo": "WPO is use_weighting: true beside an objective",
        "ld_dpo": "LD-DPO is ld_alpha: 0.5 beside an objective",
        "ppo": "it is a stage: write stage: ppo",
        "grpo": "it is a stage: write stage: grpo",
        "rloo": "it is a setting of stage: grpo",
    }
)


def objective(name: str) -> Objective:
    """The objective of that name or alias; ConfigError with the nearest name otherwise."""
    word = name.strip().lower().replace("-", "_")
    word = ALIASES.get(word, word)
    if word in OBJECTIVES:
        return OBJECTIVES[word]
    hint = ELSEWHERE.get(word)
    if hint is None:
        near = difflib.get_close_matches(word, [*OBJECTIVES, *ALIASES], n=1)
        hint = f"did you mean {near[0]}?" if near else "`palate objectives` lists them"
    raise ConfigError(f"pref_loss: there is no objective {name!r}; {hint}")


@dataclass(frozen=True, slots=True)
class Member:
    """One objective of a run's loss, alone or in a mixture.

    Attributes:
        row: what the table says of it.
        options: resolved, by config key.
        weight: in the sum.
    """

    row: Objective
    options: Mapping[str, Any]
    weight: float = 1.0


def loss_at_start(members: Iterable[Member]) -> float | None:
    """The loss of their sum while the policy still equals the reference; None where it depends on the data.

    What BCO adds acts on the sum, not on each of them.
    """
    total = bco = 0.0
    for member in members:
        bare = member.row.loss_at_start({**member.options, "pref_bco_weight": 0.0})
        if bare is None:
            return None
        total += member.weight * bare
        bco = member.options.get("pref_bco_weight", 0.0)
    return (total + bco * 2.0 * LOG2) / (1.0 + bco)


def resolve_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of objective `name`, its modifiers' included, by config key: those given, defaults for the rest.

    None stands for a key left out. A key that the objective does not read is refused by name unless its value is the
    key's default, which changes nothing.
    """
    chosen = objective(name)
    values = _canonical(given)
    for key, value in values.items():
        if not _applies(key, value, chosen):
            raise ConfigError(f"{key}: {value} has no effect on pref_loss: {chosen.name}; {_users(key)}")
    return _resolved(chosen, values)


def resolve_mixture(weights: Mapping[str, float], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of each objective of a mixture, by name; `weights` maps names to their weights in the sum.

    An objective's own option must be read by at least one member; a modifier must be admitted by all of them, because
    it acts on the mixture as a whole.
    """
    members = [objective(name) for name in weights]
    if len({member.name for member in members}) < len(members):
        raise ConfigError(f"pref_loss: an objective stands twice in {', '.join(weights)}; add up its weights")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ConfigError(f"pref_loss: the weight of {name}, {weight!r}, must be a number above 0")
    single = [member.name for member in members if member.family != "paired"]
    if single:
        raise ConfigError(f"pref_loss: only objectives on pairs can be mixed, and {single[0]} is not one of them")
    scored = [member.name for member in members if "dimension_weights" in member.options]
    if scored and len(members) > 1:
        raise ConfigError(f"pref_loss: {scored[0]} weighs dimensions already and cannot be mixed with other objectives")
    values = _canonical(given)
    modifiers = {key for row in OBJECTIVES.values() for key in row.modifiers}
    for key, value in values.items():
        unread = [member.name for member in members if not _applies(key, value, member)]
        if unread and (key in modifiers or len(unread) == len(members)):
            raise ConfigError(f"{key}: {value} has no effect on pref_loss: {unread[0]}; {_users(key)}")
    return {member.name: _resolved(member, values) for member in members}


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


def _applies(key: str, value: Any, chosen: Objective) -> bool:
    """Whether `chosen` reads the option, or the option's value changes nothing anyway."""
    if key in chosen.all_options or (key == "pref_beta" and chosen.name == "orpo"):
        return True
    return bool(OPTIONS[key].read(key, value) == OPTIONS[key].default)


def _users(key: str) -> str:
    names = [row.name for row in OBJECTIVES.values() if key in row.all_options]
    return f"remove the key, or take an objective that uses it: {', '.join(names)}"


def _resolved(chosen: Objective, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of `chosen`, read, checked and filled in."""
    values = _orpo_weight(given) if chosen.name == "orpo" else given
    resolved: dict[str, Any] = {}
    for key, option in chosen.all_options.items():
        resolved[key] = option.read(key, values[key]) if key in values else option.default
        if option.required and resolved[key] is None:
            raise ConfigError(f"{key}: missing; pref_loss: {chosen.name} needs it ({option.doc})")
    _check_divergence(resolved)
    _check_dimension(resolved)
    return resolved


def _orpo_weight(given: Mapping[str, Any]) -> dict[str, Any]:
    """orpo has no β; peers put its λ there, so pref_beta is read as orpo_lambda."""
    values = dict(given)
    beta = values.pop("pref_beta", None)
    if beta is not None and values.setdefault("orpo_lambda", beta) != beta:
        own = values["orpo_lambda"]
        raise ConfigError(f"pref_beta: {beta} means λ for orpo, and orpo_lambda: {own} says otherwise; keep one")
    return values


def _check_divergence(resolved: Mapping[str, Any]) -> None:
    key = "f_alpha_divergence_coef"
    if resolved.get("f_divergence_type", "alpha") != "alpha" and resolved[key] != OPTIONS[key].default:
        raise ConfigError(
            f"{key}: {resolved[key]} has no effect without f_divergence_type: alpha; set it or remove the key"
        )


def _check_dimension(resolved: Mapping[str, Any]) -> None:
    if "dimension" not in resolved:
        return
    name, weights = resolved["dimension"], resolved["dimension_weights"]
    if not weights.get(name):
        positive = ", ".join(key for key, weight in weights.items() if weight)
        raise ConfigError(f"dimension: {name} has no weight above 0 in dimension_weights; choose one of {positive}")
