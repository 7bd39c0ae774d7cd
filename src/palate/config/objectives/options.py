"""The options of the objectives: each key once, with its type, range, default and meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from palate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Option:
    """One number or word that an objective may be given.

    Attributes:
        default: what holds when the key is absent.
        type: float, bool, str, or dict (dimension name → weight).
        doc: one line for people.
        argument: the keyword of the loss function that it becomes.
        low, high: bounds of a float, None where there is none.
        low_open, high_open: the bound itself is not allowed.
        choices: the words that a str may be; empty for any.
        synonyms: (other spelling, choice).
        required: there is no default that could be right, so the key must be given.
    """

    default: Any
    type: type
    doc: str
    argument: str
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    choices: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, str], ...] = ()
    required: bool = False

    @property
    def range(self) -> str:
        """The allowed values, as a person writes them: `(0, 0.5]`, `mean | sum`, `true | false`."""
        if self.choices:
            return " | ".join(self.choices)
        if self.type is bool:
            return "true | false"
        if self.type is not float:
            return "a name" if self.type is str else "name: weight, …"
        left = "(" if self.low_open or self.low is None else "["
        right = ")" if self.high_open or self.high is None else "]"
        low = "−∞" if self.low is None else f"{self.low:g}"
        high = "∞" if self.high is None else f"{self.high:g}"
        return f"{left}{low}, {high}{right}"

    def read(self, key: str, value: Any) -> Any:
        """The value of `key` in its own type; ConfigError where it is of another type or out of range."""
        if self.type is float:
            return self._number(key, value)
        if self.type is bool:
            if not isinstance(value, bool):
                raise ConfigError(f"{key}: {value!r} must be true or false")
            return value
        if self.type is dict:
            return _weights(key, value)
        word = dict(self.synonyms).get(str(value), str(value))
        if self.choices and word not in self.choices:
            raise ConfigError(f"{key}: {value!r} must be one of {', '.join(self.choices)}")
        return word

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"{key}: {value!r} must be a number in {self.range}")
        too_low = self.low is not None and (value < self.low or (self.low_open and value == self.low))
        too_high = self.high is not None and (value > self.high or (self.high_open and value == self.high))
        if too_low or too_high:
            raise ConfigError(f"{key}: {value} must be in {self.range}")
        return float(value)


def _weights(key: str, value: Any) -> dict[str, float]:
    example = f"write e.g. {key}: {{helpfulness: 0.7, safety: 0.3}}"
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(f"{key}: {value!r} must name dimensions and their weights: {example}")
    numbers = {str(name): weight for name, weight in value.items()}
    for name, weight in numbers.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise ConfigError(f"{key}: the weight of {name}, {weight!r}, must be a number from 0 to 1")
    total = math.fsum(numbers.values())
    if abs(total - 1.0) > 1e-6:
        raise ConfigError(f"{key}: the weights sum to {total:g}, not 1; divide each by {total:g}")
    return {name: float(weight) for name, weight in numbers.items()}


def number(
    default: float | None,
    argument: str,
    doc: str,
    low: float | None = None,
    high: float | None = None,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> Option:
    """A float option."""
    return Option(default, float, doc, argument, low=low, high=high, low_open=low_open, high_open=high_open)


BETA = number(0.1, "beta", "β: how strongly the reference holds; larger stays closer to it", 0.0, low_open=True)
LABEL_SMOOTHING = number(0.0, "label_smoothing", "ε: the share of labels taken to be wrong", 0.0, 0.5, high_open=True)
WANTED = number(1.0, "desirable_weight", "λ_D: weight of wanted completions", 0.0)
UNWANTED = number(1.0, "undesirable_weight", "λ_U: weight of unwanted completions", 0.0)

# Every option's general form; an objective that needs another default or range says so in its row.
OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "pref_beta": BETA,
        "dpo_label_smoothing": LABEL_SMOOTHING,
        "simpo_gamma": number(1.0, "gamma", "γ: the margin that chosen must win by, in units of reward", 0.0),
        "ipo_logps": Option("mean", str, "log-ratios as per-token means or as sums", "logps", choices=("mean", "sum")),
        "dpop_lambda": number(50.0, "penalty", "λ: price of log π(chosen) below the reference", 0.0),
        "rdpo_alpha": number(0.01, "alpha", "α: the reward that one more token is worth by itself", 0.0),
        "cpo_alpha": number(1.0, "alpha", "α: weight of the SFT term", 0.0),
        "orpo_lambda": number(0.1, "weight", "λ: weight of the odds-ratio term", 0.0, low_open=True),
        "discopop_tau": number(0.05, "tau", "τ: temperature of the blend", 0.0, 1.0, low_open=True),
        "kto_chosen_weight": WANTED,
        "kto_rejected_weight": UNWANTED,
        "dimension_weights": Option(None, dict, "weight of each dimension; they sum to 1", "weights", required=True),
        "dimension_temperature": number(
            None, "temperature", "T of p = σ(Σ w(c − r)/T); absent: p counts the dimensions won", 0.0, low_open=True
        ),
        "dimension": Option(None, str, "the dimension that orders the pair", "dimension", required=True),
        "center_rewards_coefficient": number(
            0.0, "centring", "weight of the pull of r_c + r_r to zero; 0.01 where on", 0.0
        ),
        "pref_ftx": number(0.0, "sft", "weight of an added SFT term, −(per-token mean log π) of chosen", 0.0),
        "kl_coef": number(0.0, "kl", "weight of an added penalty on the KL to the reference", 0.0),
        "pref_bco_weight": number(0.0, "bco", "w of (L + w·L_bco)/(1 + w)", 0.0),
        "f_divergence_type": Option(
            "reverse_kl",
            str,
            "the divergence from the reference that regularises",
            "f_divergence",
            choices=("reverse_kl", "forward_kl", "js", "alpha"),
            synonyms=(("js_divergence", "js"), ("alpha_divergence", "alpha")),
        ),
        "f_alpha_divergence_coef": number(0.5, "f_alpha", "α of the alpha divergence; 1 is reverse_kl", 0.0, 2.0),
        "ld_alpha": number(1.0, "ld_alpha", "weight of the tokens beyond the shorter completion's length", 0.0, 1.0),
        "use_weighting": Option(False, bool, "weigh pairs by the policy's own probability (WPO)", "weighting"),
    }
)
