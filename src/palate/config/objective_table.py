"""One row for each objective: formula, options, needs, known loss at step 0, source, and which peer's option it is.

In the formulas `a, b` are sums of log π over the trained tokens of chosen and rejected, `a0, b0` the same under the
reference, `nc, nr` the token counts, `ā = a/nc`; Δc = a − a0, Δr = b − b0, Δ = Δc − Δr; lσ is log-sigmoid, ε the label
smoothing, u the log-ratio of one completion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from palate.config.objective_options import OPTIONS, Option

Family: TypeAlias = Literal["paired", "ranked", "unpaired", "reward"]
Options: TypeAlias = Mapping[str, Any]

LOG2 = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is known of a loss without computing it.

    Attributes:
        name: the value of `pref_loss`.
        family: which records it reads: pairs, rankings, labelled completions, or pairs for a reward head.
        formula: the loss of one example.
        summary: one line for people.
        options: the config keys that it reads, its modifiers' keys not among them.
        modifiers: the keys of the modifiers that it admits.
        needs_reference: whether it reads reference log-probabilities.
        couples_batch: whether one example's loss depends on the others of the step.
        length_normalised: whether it reads per-token means (`averages` asks with the options known).
        state: arguments of the function that the caller carries from step to step.
        start: the loss of the bare objective at step 0, or how it follows from options and number of completions;
            None where it depends on the data.
        source: arXiv id.
        reproduces: whose option of which name this equals, and where peers differ.
        when_to_use: one line of advice.
    """

    name: str
    family: Family
    formula: str
    summary: str
    options: Mapping[str, Option]
    modifiers: tuple[str, ...]
    needs_reference: bool = True
    couples_batch: bool = False
    length_normalised: bool = False
    state: tuple[str, ...] = ()
    start: float | Callable[[Options, int], float] | None
    source: str
    reproduces: str
    when_to_use: str

    @property
    def all_options(self) -> dict[str, Option]:
        """Its own options and then those of its modifiers, by config key."""
        return {**self.options, **{key: OPTIONS[key] for key in self.modifiers}}

    def arguments(self, options: Options) -> dict[str, Any]:
        """The keyword arguments of the loss function for resolved `options`, modifiers left out."""
        values = {option.argument: options[key] for key, option in self.options.items()}
        if "weights" in values:
            if "dimension" in values:
                values["dimension"] = list(values["weights"]).index(values["dimension"])
            values["weights"] = tuple(values["weights"].values())
        return values

    def modifier_arguments(self, options: Options) -> dict[str, Any]:
        """The fields of `objectives.modifiers.Modifiers` for resolved `options`."""
        return {OPTIONS[key].argument: options[key] for key in self.modifiers}

    def averages(self, options: Options) -> bool:
        """Whether the loss, so its rewards too, is in nats per token and not per completion."""
        return self.length_normalised if "ipo_logps" not in self.options else options["ipo_logps"] == "mean"

    def token_level(self, options: Options) -> bool:
        """Whether the reference must be known token by token, not only summed (`ld_alpha` below 1)."""
        return bool(options.get("ld_alpha", 1.0) != 1.0)

    def reward_scale(self, options: Options) -> float:
        """β of the reported rewards: the objective's own β, orpo's λ, or 1 where there is none."""
        return float(options.get("pref_beta", options.get("orpo_lambda", 1.0)))

    def loss_at_start(self, options: Options, *, completions: int = 2) -> float | None:
        """The loss when the policy still equals the reference; None where it depends on the data.

        `completions` is the length of a ranking.
        """
        if options.get("pref_ftx", 0.0) > 0.0 or options.get("use_weighting", False):
            return None
        bare = self.start(options, completions) if callable(self.start) else self.start
        bco = options.get("pref_bco_weight", 0.0)
        return None if bare is None else (bare + bco * 2.0 * LOG2) / (1.0 + bco)


def _own(*keys: str, **changed: Option) -> Mapping[str, Option]:
    return MappingProxyType({key: changed.get(key, OPTIONS[key]) for key in (*keys, *(k for k in changed))})


BETA = OPTIONS["pref_beta"]

# Which modifiers an objective admits. A loss of the difference admits all; one that treats each completion by
# itself has no use for an f-divergence; one that divides by length has no tail to discount.
ADDED = ("pref_ftx", "kl_coef", "pref_bco_weight", "use_weighting")
SUMMED = (*ADDED, "ld_alpha")
DIFFERENCE = ("f_divergence_type", "f_alpha_divergence_coef")

_ROWS = (
    Objective(
        name="sigmoid",
        family="paired",
        formula="−(1−ε)·lσ(βΔ) − ε·lσ(−βΔ)",
        summary="DPO; with label smoothing, conservative DPO",
        options=_own("pref_beta", "dpo_label_smoothing"),
        modifiers=(*SUMMED, *DIFFERENCE),
        start=LOG2,
        source="2305.18290",
        reproduces="TRL, LLaMA-Factory and OpenRLHF `sigmoid`; ε as LLaMA-Factory, OpenRLHF and torchtune (cDPO); TRL "
        "≥ 0.29 ignores it here",
        when_to_use="the default; ε when some labels are wrong",
    ),
    Objective(
        name="robust",
        family="paired",
        formula="[−(1−ε)·lσ(βΔ) + ε·lσ(−βΔ)] / (1−2ε)",
        summary="DPO made unbiased under a known share of flipped labels",
        options=_own("pref_beta", "dpo_label_smoothing"),
        modifiers=(*SUMMED, *DIFFERENCE),
        start=LOG2,
        source="2403.00409",
        reproduces="TRL and LLaMA-Factory `robust`",
        when_to_use="noisy labels whose rate you know; ε is that rate",
    ),
    Objective(
        name="hinge",
        family="paired",
        formula="max(0, 1 − βΔ)",
        summary="SLiC's hinge on the implied reward margin",
        options=_own("pref_beta"),
        modifiers=(*SUMMED, *DIFFERENCE),
        start=1.0,
        source="2309.06657",
        reproduces="TRL and LLaMA-Factory `hinge`; the loss itself is SLiC (2305.10425)",
        when_to_use="pairs that are already well separated should stop pulling",
    ),
    Objective(
        name="ipo",
        family="paired",
        formula="(δ − 1/(2β))², δ = Δc/nc − Δr/nr (mean) or Δ (sum)",
        summary="identity preference optimisation: regress the margin to a fixed value",
        options=_own("pref_beta", "ipo_logps"),
        modifiers=(*ADDED, *DIFFERENCE),
        length_normalised=True,
        start=lambda options, _: (0.5 / options["pref_beta"]) ** 2,
        source="2310.12036",
        reproduces="mean: TRL, LLaMA-Factory and HALOs `ipo`; sum: the paper's formula and OpenRLHF `--ipo`",
        when_to_use="few, deterministic preferences that sigmoid would push without end",
    ),
    Objective(
        name="sigmoid_norm",
        family="paired",
        formula="−(1−ε)·lσ(βδ) − ε·lσ(−βδ), δ = Δc/nc − Δr/nr",
        summary="length-normalised DPO, on per-token means",
        options=_own("dpo_label_smoothing", pref_beta=replace(BETA, default=5.0)),
        modifiers=(*ADDED, *DIFFERENCE),
        length_normalised=True,
        start=LOG2,
        source="2411.15124",
        reproduces="TRL `sigmoid_norm`, open-instruct `dpo_norm`; TRL ignores ε here",
        when_to_use="answers grow longer under sigmoid, or lengths within pairs differ much",
    ),
)

OBJECTIVES: Mapping[str, Objective] = MappingProxyType({row.name: row for row in _ROWS})
