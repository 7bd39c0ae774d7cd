"""The keys of preference training: objective, reference, and samples."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import AfterValidator, model_validator

from palate.config.base import Fields, setting
from palate.config.objectives.lookup import OPTIONS, Member, objective, resolve_mixture, resolve_options
from palate.config.objectives.options import CommonOptions, PairOptions, RewardOptions
from palate.config.values import AutoOffOrPath, AutoOrOff, PathText
from palate.errors import ConfigError


def _objective_name(name: str) -> str:
    return objective(name).name


def _objective_names(chosen: str | dict[str, float]) -> str | dict[str, float]:
    if isinstance(chosen, str):
        return _objective_name(chosen)
    if not chosen:
        raise ConfigError("pref_loss: an empty mixture; name an objective, or several with weights")
    named = {_objective_name(name): weight for name, weight in chosen.items()}
    if len(named) < len(chosen):
        raise ConfigError(f"pref_loss: an objective is named twice in {', '.join(chosen)}; add up its weights")
    return named


ObjectiveName: TypeAlias = Annotated[str, AfterValidator(_objective_name)]
Mixture: TypeAlias = Annotated[str | dict[str, float], AfterValidator(_objective_names)]

# Family of objectives → the rows it learns from, and the stage that trains with it.
STAGE_OF: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "paired": ("pairs", "dpo"),
        "ranked": ("rankings", "dpo"),
        "unpaired": ("single labelled answers", "kto"),
        "reward": ("a reward head", "rm"),
    }
)


class ObjectiveChoice(Fields):
    """An objective, and the options that the stage's class has as fields.

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
        """Every key with its value; of the objectives' options only those that are read, with their defaults."""
        options, keys = self.objective_options, self.objective_keys()
        values = super().resolved()
        return {key: options.get(key, value) for key, value in values.items() if key in options or key not in keys}

    @model_validator(mode="after")
    def _check_objective(self) -> Any:
        for name in [self.pref_loss] if isinstance(self.pref_loss, str) else self.pref_loss:
            family = objective(name).family
            if family not in self.families:
                rows, stage = STAGE_OF[family]
                raise ConfigError(f"pref_loss: {name} learns from {rows}; write stage: {stage}")
        _ = self.objectives  # raises ConfigError where an option does not belong to the objective
        return self


class ObjectiveFields(PairOptions, CommonOptions, ObjectiveChoice):
    """Objective: the loss. [objectives](objectives.md) has the options of each; others are refused."""

    families = ("paired", "ranked")

    pref_loss: Mixture = setting(
        "sigmoid",
        "The objective; `palate objectives` lists them. A mapping of objectives to weights trains on the "
        "weighted sum of several objectives on pairs.",
    )


class UnpairedObjectiveFields(CommonOptions, ObjectiveChoice):
    """Objective on single answers: the loss. [objectives](objectives.md) has the options of each."""

    families = ("unpaired",)

    pref_loss: ObjectiveName = setting("kto", "The objective: kto, apo_zero_unpaired or bco.")


class RewardObjectiveFields(RewardOptions, ObjectiveChoice):
    """Objective of a reward model: the loss. [objectives](objectives.md) has the options of each."""

    families = ("reward",)

    pref_loss: ObjectiveName = setting(
        "bradley_terry",
        "The objective: bradley_terry (pairs), reward_plackett_luce (rankings) or reward_regression "
        "(answers with scores from 0 to 1).",
    )
    margin_weight: float = setting(
        0.0,
        "Weight of a row's margin: with bradley_terry, r_chosen should exceed r_rejected by weight × "
        "margin. 1 uses the margins of the data unchanged.",
        ge=0,
    )

    @model_validator(mode="after")
    def _check_margin_weight(self) -> Any:
        if self.margin_weight and self.pref_loss != "bradley_terry":
            raise ValueError(
                f"margin_weight: {self.margin_weight:g} has no effect on pref_loss: {self.pref_loss}; remove the key, "
                "or take bradley_terry"
            )
        return self


class ReferenceFields(Fields):
    """Reference: the reference model, and caches."""

    ref_model: PathText | None = setting(
        None, "Folder or hub id of a separate reference model.", shown="the initial policy"
    )
    reference_cache: AutoOffOrPath = setting(
        "auto",
        "Cache of reference log-probabilities: auto decides, off computes them in each step, a path names the file.",
    )
    trunk_cache: AutoOrOff = setting("auto", "Cache the outputs of frozen bottom layers (finetuning_type: freeze).")


class SampleFields(Fields):
    """Samples: answers of policy and reference, before and after training."""

    sample_prompts: int = setting(4, "Number of held-out prompts to answer; 0 for none.", ge=0)
    sample_max_new_tokens: int = setting(128, "Maximum length of a sample answer, in tokens.", ge=1)
