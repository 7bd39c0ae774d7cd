"""Looking objectives up by name, and filling in and checking their options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from palate.config.objectives.options import OPTIONS as OPTIONS
from palate.config.objectives.options import Option as Option
from palate.config.objectives.row import LOG2
from palate.config.objectives.row import Objective as Objective
from palate.config.objectives.table import OBJECTIVES as OBJECTIVES
from palate.errors import ConfigError

ALIASES: Mapping[str, str] = MappingProxyType({alias: row.name for row in OBJECTIVES.values() for alias in row.aliases})

# Names that are not an objective here → what to write instead.
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "ipo_sum": "write pref_loss: ipo and ipo_logps: sum",
        "ipo_mean": "write pref_loss: ipo and ipo_logps: mean",
        "sft": "pref_ftx: WEIGHT adds an SFT term to any objective; for SFT alone write stage: sft",
        "wpo": "write use_weighting: true with another objective",
        "ld_dpo": "write ld_alpha: 0.5 with another objective",
        "ppo": "it is a stage: write stage: ppo",
        "grpo": "it is a stage: write stage: grpo",
        "rloo": "write stage: grpo and advantage_estimator: rloo",
    }
)


def objective(name: str) -> Objective:
    """The objective with that name or alias. Raises ConfigError with the nearest name otherwise."""
    key = name.strip().lower().replace("-", "_")
    key = ALIASES.get(key, key)
    if key in OBJECTIVES:
        return OBJECTIVES[key]
    near = get_close_matches(key, [*OBJECTIVES, *ALIASES], n=1)
    hint = ELSEWHERE.get(key) or (f"did you mean {near[0]}?" if near else "`palate objectives` lists them")
    raise ConfigError(f"pref_loss: there is no objective {name!r}; {hint}")


@dataclass(frozen=True, slots=True)
class Member:
    """An objective of a run's loss, alone or in a mixture.

    Attributes:
        row: its row of the table.
        options: resolved, by config key.
        weight: its weight in the sum.
    """

    row: Objective
    options: Mapping[str, Any]
    weight: float = 1.0


def loss_at_start(members: Iterable[Member]) -> float | None:
    """The loss of a mixture while the policy equals the reference; None where it depends on the data.

    A BCO term (`pref_bco_weight`) is added once to the sum, not to each member.
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
    """All options of objective `name`, including its modifiers', by config key: the given ones, else defaults.

    A value of None counts as not given. Raises ConfigError for a key that the objective does not read, unless the value
    is the key's default.
    """
    chosen = objective(name)
    return _resolve([chosen], given)[chosen.name]


def resolve_mixture(weights: Mapping[str, float], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of each objective of a mixture, by name; `weights` maps names to weights in the sum.

    An objective's own option must be read by at least one member. A modifier must be admitted by all of them, because
    it acts on the whole mixture.
    """
    members = [objective(name) for name in weights]
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise ConfigError(f"pref_loss: an objective is named twice in {', '.join(weights)}; add up its weights")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ConfigError(f"pref_loss: the weight of {name}, {weight!r}, must be a number above 0")
    for member in members:
        if member.family != "paired":
            raise ConfigError(f"pref_loss: only objectives on pairs can be mixed, and {member.name} is not one of them")
        if "dimension_weights" in member.options and len(members) > 1:
            raise ConfigError(
                f"pref_loss: {member.name} already weights dimensions and cannot be mixed with other objectives"
            )
    return _resolve(members, given)


def _resolve(members: Sequence[Objective], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    values = {key: value for key, value in given.items() if value is not None}
    modifiers = {key for row in OBJECTIVES.values() for key in row.modifiers}
    for key, value in values.items():
        unread = [member.name for member in members if not _applies(key, value, member)]
        if unread and (key in modifiers or len(unread) == len(members)):
            users = ", ".join(row.name for row in OBJECTIVES.values() if key in row.all_options)
            raise ConfigError(
                f"{key}: {value} has no effect on pref_loss: {unread[0]}; remove the key, or take an objective that "
                f"uses it: {users}"
            )
    return {member.name: _resolved(member, values) for member in members}


def _applies(key: str, value: Any, chosen: Objective) -> bool:
    """Whether `chosen` reads the option, or the value is the default and so changes nothing."""
    return key in chosen.all_options or (key, chosen.name) == ("pref_beta", "orpo") or value == OPTIONS[key].default


def _resolved(chosen: Objective, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of `chosen`, with defaults filled in."""
    values = _orpo_weight(given) if chosen.name == "orpo" else given
    resolved: dict[str, Any] = {}
    for key, option in chosen.all_options.items():
        resolved[key] = option.read(key, values[key]) if key in values else option.default
        if option.required and resolved[key] is None:
            raise ConfigError(f"{key}: missing; pref_loss: {chosen.name} needs it ({option.doc.rstrip('.')})")
    key = "f_alpha_divergence_coef"
    if resolved.get("f_divergence_type", "alpha") != "alpha" and resolved[key] != OPTIONS[key].default:
        raise ConfigError(f"{key}: {resolved[key]} has no effect without f_divergence_type: alpha")
    name, weights = resolved.get("dimension"), resolved.get("dimension_weights", {})
    if name is not None and not weights.get(name):
        positive = ", ".join(key for key, weight in weights.items() if weight)
        raise ConfigError(f"dimension: {name} has no weight above 0 in dimension_weights; choose one of {positive}")
    return resolved


def _orpo_weight(given: Mapping[str, Any]) -> dict[str, Any]:
    """orpo has no β; other libraries call its λ beta, so pref_beta is read as orpo_lambda."""
    values = dict(given)
    beta = values.pop("pref_beta", None)
    if beta is not None and values.setdefault("orpo_lambda", beta) != beta:
        other = values["orpo_lambda"]
        raise ConfigError(f"pref_beta: {beta} means λ for orpo, but orpo_lambda is {other}; keep one")
    return values
