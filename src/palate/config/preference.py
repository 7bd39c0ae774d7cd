"""What only preference training has: the objective, the reference, and samples beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from palate.config.base import Fields
from palate.config.objectives import OPTIONS, objective, resolve_options
from palate.config.values import AutoOffOrPath, AutoOrOff
from palate.errors import ConfigError


def _option(key: str) -> Any:
    """A field for an objective's option: None leaves the value to the objective, whose table has all about it."""
    return Field(None, description=OPTIONS[key].doc, json_schema_extra={"default": "the objective's"})


def _own_name(name: str) -> str:
    return objective(name).name


ObjectiveName: TypeAlias = Annotated[str, AfterValidator(_own_name)]


class ObjectiveFields(Fields):
    """The loss and its options; objectives.md has their defaults and ranges. The others are refused."""

    pref_loss: ObjectiveName = Field("sigmoid", description="The objective; `palate objectives` lists them.")
    pref_beta: float | None = _option("pref_beta")
    dpo_label_smoothing: float | None = _option("dpo_label_smoothing")
    simpo_gamma: float | None = _option("simpo_gamma")
    ipo_logps: Literal["mean", "sum"] | None = _option("ipo_logps")
    dpop_lambda: float | None = _option("dpop_lambda")
    rdpo_alpha: float | None = _option("rdpo_alpha")
    cpo_alpha: float | None = _option("cpo_alpha")
    orpo_lambda: float | None = _option("orpo_lambda")
    discopop_tau: float | None = _option("discopop_tau")
    kto_chosen_weight: float | None = _option("kto_chosen_weight")
    kto_rejected_weight: float | None = _option("kto_rejected_weight")
    dimension_weights: dict[str, float] | None = _option("dimension_weights")
    dimension_temperature: float | None = _option("dimension_temperature")
    dimension: str | None = _option("dimension")
    pref_ftx: float | None = _option("pref_ftx")
    kl_coef: float | None = _option("kl_coef")
    pref_bco_weight: float | None = _option("pref_bco_weight")
    f_divergence_type: str | None = _option("f_divergence_type")
    f_alpha_divergence_coef: float | None = _option("f_alpha_divergence_coef")
    ld_alpha: float | None = _option("ld_alpha")
    use_weighting: bool | None = _option("use_weighting")

    @property
    def objective_options(self) -> dict[str, Any]:
        """Every option that the chosen objective reads, by key, its defaults filled in."""
        return resolve_options(self.pref_loss, {key: getattr(self, key) for key in OBJECTIVE_KEYS})

    @model_validator(mode="after")
    def _objective_fits(self) -> Any:
        family = objective(self.pref_loss).family
        if family not in ("paired", "ranked"):
            raise ConfigError(
                f"pref_loss: {self.pref_loss} learns from {family} rows; stage dpo from pairs and rankings"
            )
        _ = self.objective_options  # raises ConfigError where an option does not belong to the objective
        return self


OBJECTIVE_KEYS = tuple(name for name in ObjectiveFields.model_fields if name != "pref_loss")


class ReferenceFields(Fields):
    """What the policy is compared with, and what need not be computed twice."""

    ref_model: str | None = Field(
        None,
        description="Folder or hub id of a separate reference model.",
        json_schema_extra={"default": "the policy as it starts"},
    )
    reference_cache: AutoOffOrPath = Field(
        "auto", description="Reference log-probabilities: auto decides, off computes live, a path names their file."
    )
    trunk_cache: AutoOrOff = Field("auto", description="Keep what frozen bottom layers compute, where there are some.")


class SampleFields(Fields):
    """Answers of policy and reference beside each other, as training goes on."""

    sample_prompts: int = Field(4, ge=0, description="How many held-out prompts are answered; 0 for none.")
    sample_max_new_tokens: int = Field(128, ge=1, description="Longest sampled answer, in tokens.")
