"""What only preference training has: the objective, the reference, and samples beside it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from palate.config.base import Fields
from palate.config.values import AutoOffOrPath, AutoOrOff

# Said of every option below that is left out.
OBJECTIVE = {"default": "the objective's"}


class ObjectiveFields(Fields):
    """The loss and its options. An option that the chosen loss does not use is refused."""

    pref_loss: str = Field("sigmoid", description="The objective; `palate objectives` lists them.")
    pref_beta: float | None = Field(
        None, description="β: how strongly the reference holds; larger stays closer to it.", json_schema_extra=OBJECTIVE
    )
    dpo_label_smoothing: float | None = Field(
        None, description="ε: the share of labels taken to be wrong.", json_schema_extra=OBJECTIVE
    )
    simpo_gamma: float | None = Field(None, description="γ: the margin of simpo.", json_schema_extra=OBJECTIVE)
    ipo_logps: Literal["mean", "sum"] | None = Field(
        None, description="ipo on per-token means or on sums.", json_schema_extra=OBJECTIVE
    )
    dpop_lambda: float | None = Field(None, description="λ: dpop's penalty.", json_schema_extra=OBJECTIVE)
    rdpo_alpha: float | None = Field(None, description="α: r_dpo's price of a token.", json_schema_extra=OBJECTIVE)
    cpo_alpha: float | None = Field(None, description="α: cpo's SFT weight.", json_schema_extra=OBJECTIVE)
    orpo_lambda: float | None = Field(None, description="λ: orpo's odds-ratio weight.", json_schema_extra=OBJECTIVE)
    discopop_tau: float | None = Field(None, description="τ: discopop's temperature.", json_schema_extra=OBJECTIVE)
    kto_chosen_weight: float | None = Field(
        None, description="λ_D: weight of wanted completions.", json_schema_extra=OBJECTIVE
    )
    kto_rejected_weight: float | None = Field(
        None, description="λ_U: weight of unwanted completions.", json_schema_extra=OBJECTIVE
    )
    pref_ftx: float | None = Field(None, description="Weight of an added SFT term.", json_schema_extra=OBJECTIVE)
    kl_coef: float | None = Field(None, description="Weight of an added KL penalty.", json_schema_extra=OBJECTIVE)
    pref_bco_weight: float | None = Field(None, description="Weight of bco_pair mixed in.", json_schema_extra=OBJECTIVE)
    f_divergence_type: str | None = Field(
        None, description="reverse_kl, forward_kl, js or alpha.", json_schema_extra=OBJECTIVE
    )
    f_alpha_divergence_coef: float | None = Field(
        None, description="α of the alpha divergence.", json_schema_extra=OBJECTIVE
    )
    ld_alpha: float | None = Field(
        None, description="Weight of the tokens beyond the shorter completion's length.", json_schema_extra=OBJECTIVE
    )
    use_weighting: bool | None = Field(
        None, description="Weigh pairs by the policy's own probability (WPO).", json_schema_extra=OBJECTIVE
    )


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
