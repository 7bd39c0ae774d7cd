"""The options of the objectives: each declared once, as a pydantic field with type, range, default and meaning.

The stages' config classes inherit these fields. Their value None means the objective's own default, which is the
field's unless the objective's row changes it. `OPTIONS` has the same declarations for tables and checks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from palate.config.base import Fields, plain_types
from palate.config.explain import complaint
from palate.errors import ConfigError


def _option(default: Any, argument: str, doc: str, *, required: bool = False, **bounds: Any) -> Any:
    """A field of the config; `argument` is the keyword of the loss function that the option becomes."""
    facts = {"default": "the objective's", "of_objective": default, "argument": argument, "required": required}
    return Field(None, description=doc, json_schema_extra=facts, **bounds)


def _dimension_weights(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("must map dimensions to their weights, e.g. {helpfulness: 0.7, safety: 0.3}")
    for name, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise ValueError(f"the weight of {name}, {weight!r}, must be a number from 0 to 1")
    total = math.fsum(value.values())
    if abs(total - 1.0) > 1e-6:
        raise ValueError(f"the weights sum to {total:g}, not 1; divide each by {total:g}")
    return {str(name): float(weight) for name, weight in value.items()}


def _short_name(value: Any) -> Any:
    """TRL writes `js_divergence`."""
    return value.removesuffix("_divergence") if isinstance(value, str) else value


DimensionWeights: TypeAlias = Annotated[dict[str, float], BeforeValidator(_dimension_weights)]
_Divergence: TypeAlias = Literal["reverse_kl", "forward_kl", "js", "alpha"]
Divergence: TypeAlias = Annotated[
    _Divergence,
    BeforeValidator(_short_name, json_schema_input_type=_Divergence | Literal["js_divergence", "alpha_divergence"]),
]


class CommonOptions(Fields):
    """Options of the objectives: each has its own default, see [objectives](objectives.md)."""

    pref_beta: float | None = _option(0.1, "beta", "β: a larger value keeps the policy closer to the reference.", gt=0)
    kto_chosen_weight: float | None = _option(1.0, "desirable_weight", "λ_D: weight of desirable answers.", ge=0)
    kto_rejected_weight: float | None = _option(1.0, "undesirable_weight", "λ_U: weight of undesirable answers.", ge=0)
    pref_ftx: float | None = _option(
        0.0, "sft", "Weight of an added SFT term, the negative per-token mean of log π(chosen).", ge=0
    )
    kl_coef: float | None = _option(0.0, "kl", "Weight of an added penalty on the KL to the reference.", ge=0)


class PairOptions(Fields):
    """Options of the objectives on pairs: each has its own default, see [objectives](objectives.md)."""

    dpo_label_smoothing: float | None = _option(
        0.0, "label_smoothing", "ε: assumed share of wrong labels.", ge=0, lt=0.5
    )
    simpo_gamma: float | None = _option(1.0, "gamma", "γ: reward margin by which chosen should win.", ge=0)
    ipo_logps: Literal["mean", "sum"] | None = _option("mean", "logps", "Log-ratios as per-token means or as sums.")
    dpop_lambda: float | None = _option(
        50.0, "penalty", "λ: weight of the penalty when log π(chosen) falls below the reference.", ge=0
    )
    rdpo_alpha: float | None = _option(0.01, "alpha", "α: reward of each additional token.", ge=0)
    cpo_alpha: float | None = _option(1.0, "alpha", "α: weight of the SFT term.", ge=0)
    orpo_lambda: float | None = _option(0.1, "weight", "λ: weight of the odds-ratio term.", gt=0)
    discopop_tau: float | None = _option(
        0.05, "tau", "τ: temperature of the mix of logistic and exponential loss.", gt=0, le=1
    )
    dimension_weights: DimensionWeights | None = _option(
        None, "weights", "Weight of each dimension; they sum to 1.", required=True
    )
    dimension_temperature: float | None = _option(
        None, "temperature", "T of p = σ(Σ w(c − r)/T). Without it p is the weight of the dimensions won.", gt=0
    )
    dimension: str | None = _option(None, "dimension", "Dimension that decides which answer is chosen.", required=True)
    pref_bco_weight: float | None = _option(0.0, "bco", "w of (L + w·L_bco)/(1 + w).", ge=0)
    f_divergence_type: Divergence | None = _option(
        "reverse_kl", "f_divergence", "Divergence from the reference that regularises."
    )
    f_alpha_divergence_coef: float | None = _option(
        0.5, "f_alpha", "α of the alpha divergence; 1 is reverse_kl.", ge=0, le=2
    )
    ld_alpha: float | None = _option(
        1.0, "ld_alpha", "Weight of the tokens beyond the length of the shorter answer.", ge=0, le=1
    )
    use_weighting: bool | None = _option(False, "weighting", "Weight pairs by the policy's own probability (WPO).")


class RewardOptions(Fields):
    """Options of the objectives for reward models: each has its own default, see [objectives](objectives.md)."""

    center_rewards_coefficient: float | None = _option(
        0.0, "centring", "Weight of a term that pulls r_c + r_r to zero; 0.01 is common.", ge=0
    )


@dataclass(frozen=True, slots=True)
class Option:
    """An option as one objective has it.

    Attributes:
        default: its value where the config has none; None where there is none.
        argument: the keyword of the loss function that it becomes.
        doc: its meaning, one line.
        annotation: its type.
        bounds: its range, as pydantic's gt, ge, lt and le.
        required: whether it has to be given, because no default could be right.
    """

    default: Any
    argument: str
    doc: str
    annotation: Any
    bounds: Mapping[str, float]
    required: bool

    @property
    def range(self) -> str:
        """The allowed values: `(0, 0.5]`, `mean | sum`, `true | false`."""
        (kind,) = plain_types(self.annotation) - {NoneType}
        if get_origin(kind) is Literal:
            return " | ".join(get_args(kind))
        if kind is not float:
            return {bool: "true | false", str: "a name"}.get(kind, "name: weight, …")
        bounds = self.bounds
        low = f"({bounds['gt']:g}" if "gt" in bounds else f"[{bounds['ge']:g}"
        high = f"{bounds['lt']:g})" if "lt" in bounds else f"{bounds['le']:g}]" if "le" in bounds else "∞)"
        return f"{low}, {high}"

    def read(self, key: str, value: Any) -> Any:
        """The value of `key`, checked. Raises ConfigError where its type or range is wrong."""
        try:
            return _adapter(self.annotation, **self.bounds).validate_python(value, strict=True)
        except ValidationError as error:
            raise ConfigError(complaint(key, error.errors(include_url=False))) from error


@functools.cache
def _adapter(annotation: Any, **bounds: Any) -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[annotation, Field(**bounds)], config=ConfigDict(allow_inf_nan=False))


def _as_option(field: FieldInfo) -> Option:
    facts: Any = field.json_schema_extra
    return Option(
        default=facts["of_objective"],
        argument=facts["argument"],
        doc=field.description or "",
        annotation=field.annotation,
        bounds={name: value for bound in field.metadata for name, value in asdict(bound).items()},
        required=facts["required"],
    )


OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        key: _as_option(field)
        for group in (CommonOptions, PairOptions, RewardOptions)
        for key, field in group.model_fields.items()
    }
)
