"""What only preference training has: the objective, the reference, and samples beside it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from palate.config.base import Fields
from palate.config.objectives.lookup import OPTIONS, Member, objective, resolve_mixture, resolve_options
from palate.config.values import AutoOffOrPath, AutoOrOff, PathText
from palate.errors import ConfigError


def option_field(key: str) -> Any:
    """A field for an objective's option: None leaves the value to the objective, whose table has all about it."""
    return Field(None, description=OPTIONS[key].doc, json_schema_extra={"default": "the objective's"})


def _own_name(name: str) -> str:
    return objective(name).name


def _own_names(chosen: str | dict[str, float]) -> str | dict[str, float]:
    if isinstance(chosen, str):
        return _own_name(chosen)
    if not chosen:
        raise ConfigError("pref_loss: an empty mixture; name an objective, or several with weights")
    if len(set(map(_own_name, chosen))) < len(chosen):
        raise ConfigError(f"pref_loss: an objective stands twice in {', '.join(chosen)}; add up its weights")
    return {_own_name(name): weight for name, weight in chosen.items()}


ObjectiveName: TypeAlias = Annotated[str, AfterValidator(_own_name)]
Mixture: TypeAlias = Annotated[str | dict[str, float], AfterValidator(_own_names)]


# What a family of objectives learns from, and the stage that trains with it.
STAGE_OF: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "paired": ("pairs", "dpo"),
        "ranked": ("rankings", "dpo"),
        "unpaired": ("single labelled answers", "kto"),
        "reward": ("a reward head", "rm"),
    }
)


class ObjectiveChoice(Fields):
    """An objective and those of its options that the stage's class has as fields.

    Attributes:
        families: the families of objectives that the stage trains with.
    """

    families: ClassVar[tuple[str, ...]] = ()

    pref_loss: Mixture

    @classmethod
    def objective_keys(cls) -> tuple[str, ...]:
        """The fields that are options of objectives."""
        return tuple(name for name in cls.model_fields if name in OPTIONS)

    @property
    def objectives(self) -> tuple[Member, ...]:
        """The chosen objective, or the members of the mixture, with every option that each reads."""
        given = {key: getattr(self, key) for key in self.objective_keys()}
        if isinstance(self.pref_loss, str):
            return (Member(objective(self.pref_loss), resolve_options(self.pref_loss, given)),)
        options = resolve_mixture(self.pref_loss, given)
        return tuple(Member(objective(name), options[name], weight) for name, weight in self.pref_loss.items())

    @property
    def objective_options(self) -> dict[str, Any]:
        """Every option that is read, by key; None where the members of a mixture have different defaults for it."""
        found: dict[str, Any] = {}
        for member in self.objectives:
            for key, value in member.options.items():
                found[key] = value if found.get(key, value) == value else None
        return found

    def resolved(self) -> dict[str, Any]:
        """As for every stage; of the objectives' options those that the chosen one reads, with their values."""
        options, keys = self.objective_options, self.objective_keys()
        values = super().resolved()
        return {key: options.get(key, value) for key, value in values.items() if key in options or key not in keys}

    @model_validator(mode="after")
    def _objective_fits(self) -> Any:
        for name in [self.pref_loss] if isinstance(self.pref_loss, str) else self.pref_loss:
            family = objective(name).family
            if family not in self.families:
                rows, stage = STAGE_OF[family]
                raise ConfigError(f"pref_loss: {name} learns from {rows}; write stage: {stage}")
        _ = self.objectives  # raises ConfigError where an option does not belong to the objective
        return self


class ObjectiveFields(ObjectiveChoice):
    """The loss and its options; objectives.md has their defaults and ranges. The others are refused."""

    families = ("paired", "ranked")

    pref_loss: Mixture = Field(
        "sigmoid",
        description="The objective; `palate objectives` lists them. Objectives on pairs can be mixed, by a mapping of "
        "each to its weight in the sum.",
    )
    pref_beta: float | None = option_field("pref_beta")
    dpo_label_smoothing: float | None = option_field("dpo_label_smoothing")
    simpo_gamma: float | None = option_field("simpo_gamma")
    ipo_logps: Literal["mean", "sum"] | None = option_field("ipo_logps")
    dpop_lambda: float | None = option_field("dpop_lambda")
    rdpo_alpha: float | None = option_field("rdpo_alpha")
    cpo_alpha: float | None = option_field("cpo_alpha")
    orpo_lambda: float | None = option_field("orpo_lambda")
    discopop_tau: float | None = option_field("discopop_tau")
    kto_chosen_weight: float | None = option_field("kto_chosen_weight")
    kto_rejected_weight: float | None = option_field("kto_rejected_weight")
    dimension_weights: dict[str, float] | None = option_field("dimension_weights")
    dimension_temperature: float | None = option_field("dimension_temperature")
    dimension: str | None = option_field("dimension")
    pref_ftx: float | None = option_field("pref_ftx")
    kl_coef: float | None = option_field("kl_coef")
    pref_bco_weight: float | None = option_field("pref_bco_weight")
    f_divergence_type: str | None = option_field("f_divergence_type")
    f_alpha_divergence_coef: float | None = option_field("f_alpha_divergence_coef")
    ld_alpha: float | None = option_field("ld_alpha")
    use_weighting: bool | None = option_field("use_weighting")


OBJECTIVE_KEYS = ObjectiveFields.objective_keys()


class ReferenceFields(Fields):
    """What the policy is compared with, and what need not be computed twice."""

    ref_model: PathText | None = Field(
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
