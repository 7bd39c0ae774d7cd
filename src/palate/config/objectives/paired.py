"""The objectives on pairs, a row each; the symbols are explained in `table.py`."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from palate.config.objectives.options import OPTIONS
from palate.config.objectives.row import LOG2, Objective, Options, own

_BETA, _SMOOTHING = OPTIONS["pref_beta"], OPTIONS["dpo_label_smoothing"]

# Groups of modifiers. Per-token means have no tail to discount (ld_alpha), and their β is on another scale than that of
# pref_bco_weight's sums; an f-divergence needs a loss of the difference Δ.
ADDED = ("pref_ftx", "kl_coef", "use_weighting")
SUMMED = (*ADDED, "pref_bco_weight", "ld_alpha")
DIVERGENCE = ("f_divergence_type", "f_alpha_divergence_coef")
_paired = partial(Objective, family="paired", modifiers=SUMMED)
_of_difference = partial(_paired, modifiers=(*SUMMED, *DIVERGENCE))


def _exo_start(options: Options, _: int) -> float:
    epsilon = options["dpo_label_smoothing"]
    return -LOG2 - 0.5 * math.log(epsilon * (1.0 - epsilon))


DIFFERENCE = (
    _of_difference(
        name="sigmoid",
        aliases=("dpo", "cdpo"),
        formula="−(1−ε)·lσ(βΔ) − ε·lσ(−βΔ)",
        summary="DPO; with label smoothing, conservative DPO",
        options=own("pref_beta", "dpo_label_smoothing"),
        start=LOG2,
        source="2305.18290",
        reproduces="`sigmoid` of TRL and LLaMA-Factory, OpenRLHF's default. ε (cDPO) as LLaMA-Factory, OpenRLHF and "
        "torchtune; TRL ≥ 0.29 ignores it here.",
        when_to_use="The default; ε when some labels are wrong.",
    ),
    _of_difference(
        name="robust",
        aliases=("robust_dpo",),
        formula="[−(1−ε)·lσ(βΔ) + ε·lσ(−βΔ)] / (1−2ε)",
        summary="DPO corrected for a known share of flipped labels",
        options=own("pref_beta", "dpo_label_smoothing"),
        start=LOG2,
        source="2403.00409",
        reproduces="`robust` of TRL.",
        when_to_use="Noisy labels whose error rate you know; ε is that rate.",
    ),
    _of_difference(
        name="hinge",
        aliases=("slic",),
        formula="max(0, 1 − βΔ)",
        summary="hinge loss on the reward margin (SLiC)",
        start=1.0,
        source="2309.06657",
        reproduces="`hinge` of TRL and LLaMA-Factory; the hinge itself is SLiC's (2305.10425).",
        when_to_use="Pairs with a large margin should no longer have a gradient.",
    ),
    _paired(
        name="ipo",
        formula="(δ − 1/(2β))², δ = Δc/nc − Δr/nr (mean) or Δ (sum)",
        summary="identity preference optimisation: regress the margin to a fixed value",
        options=own("pref_beta", "ipo_logps"),
        modifiers=(*ADDED, *DIVERGENCE),
        length_normalised=True,
        start=lambda options, _: (0.5 / options["pref_beta"]) ** 2,
        source="2310.12036",
        reproduces="mean: `ipo` of TRL, LLaMA-Factory and HALOs. sum: the paper's formula and OpenRLHF.",
        when_to_use="Few pairs with certain labels, on which sigmoid would overfit.",
    ),
    _paired(
        name="sigmoid_norm",
        aliases=("dpo_norm",),
        formula="−(1−ε)·lσ(βδ) − ε·lσ(−βδ), δ = Δc/nc − Δr/nr",
        summary="length-normalised DPO, on per-token means",
        options=own("dpo_label_smoothing", pref_beta=replace(_BETA, default=5.0)),
        modifiers=(*ADDED, *DIVERGENCE),
        length_normalised=True,
        start=LOG2,
        source="2411.15124",
        reproduces="`sigmoid_norm` of TRL, which ignores ε here; `dpo_norm` of open-instruct.",
        when_to_use="Answers get longer with sigmoid, or the lengths in a pair differ much.",
    ),
    _of_difference(
        name="exo_pair",
        aliases=("exo",),
        formula="σ(βΔ)(lσ(βΔ) − log(1−ε)) + σ(−βΔ)(lσ(−βΔ) − log ε)",
        summary="EXO: reverse KL from the implied preference to the smoothed label",
        options=own("pref_beta", dpo_label_smoothing=replace(_SMOOTHING, default=1e-3, bounds={"gt": 0, "lt": 0.5})),
        start=_exo_start,
        source="2402.00856",
        reproduces="`exo_pair` of TRL.",
        when_to_use="Mode-seeking alignment; ε limits the margin.",
    ),
    _of_difference(
        name="discopop",
        formula="m·exp(−βΔ) + (1−m)·(−lσ(βΔ)), m = σ(βΔ/τ)",
        summary="DiscoPOP: a mix of logistic and exponential loss found by search",
        options=own("pref_beta", "discopop_tau"),
        start=0.5 * (1.0 + LOG2),
        source="2406.08414",
        reproduces="`discopop` of TRL.",
        when_to_use="Experiments only: it is not convex, and near margin 0 its gradient has the wrong sign.",
    ),
    _paired(
        name="dpop",
        aliases=("dpo_positive",),
        formula="−lσ(β(Δ − λ·max(0, a0 − a)))",
        summary="DPO-Positive: a penalty when chosen becomes less likely than under the reference",
        options=own("pref_beta", "dpop_lambda"),
        start=LOG2,
        source="2402.13228",
        reproduces="The paper, with its λ of 50.",
        when_to_use="log π(chosen) falls, as happens when both answers are nearly equal.",
    ),
    _paired(
        name="r_dpo",
        aliases=("rdpo",),
        formula="−lσ(βΔ + α(nc − nr))",
        summary="length-regularised DPO",
        options=own("pref_beta", "rdpo_alpha"),
        start=lambda options, _: None if options["rdpo_alpha"] else LOG2,
        source="2403.19159",
        reproduces="The paper's objective; the sign follows from its reward β·log-ratio + α·length + const.",
        when_to_use="Chosen answers are longer on average, and the model should not learn length.",
    ),
)

SEPARATE = (
    _paired(
        name="nca_pair",
        aliases=("nca",),
        formula="−lσ(βΔc) − ½lσ(−βΔc) − ½lσ(−βΔr)",
        summary="noise contrastive alignment: keeps chosen likely while rejected falls",
        start=2.0 * LOG2,
        source="2402.05369",
        reproduces="`nca_pair` of TRL.",
        when_to_use="log π(chosen) should not fall (reasoning, code).",
    ),
    _paired(
        name="bco_pair",
        formula="−lσ(βΔc − δ) − lσ(−(βΔr − δ)), δ the running mean of all βΔc and βΔr",
        summary="binary classifier optimisation on pairs",
        modifiers=(*ADDED, "ld_alpha"),
        couples_batch=True,
        inputs=("delta",),
        start=2.0 * LOG2,
        source="2404.04656",
        reproduces="The paper; TRL 1.16 has δ = 0.",
        when_to_use="Absolute quality matters, not only the order in a pair.",
    ),
    _paired(
        name="sppo_hard",
        aliases=("sppo",),
        formula="(Δc − 1/(2β))² + (Δr + 1/(2β))²",
        summary="self-play preference optimisation with hard labels",
        start=lambda options, _: 0.5 / options["pref_beta"] ** 2,
        source="2405.00675",
        reproduces="`sppo_hard` of TRL.",
        when_to_use="Rounds of pairs sampled from the policy itself.",
    ),
    _paired(
        name="aot",
        formula="−(1−ε)·lσ(βx) − ε·lσ(−βx), x = sort(a − b) − sort(a0 − b0) over the step",
        summary="alignment via optimal transport, paired",
        options=own("pref_beta", "dpo_label_smoothing"),
        modifiers=("pref_ftx", "kl_coef", "pref_bco_weight", "ld_alpha"),
        couples_batch=True,
        start=LOG2,
        source="2406.05882",
        reproduces="`aot` of TRL, but over the step on all devices instead of a micro-batch.",
        when_to_use="The distribution of margins matters more than single pairs; needs large batches.",
    ),
    _paired(
        name="aot_unpaired",
        formula="−(1−ε)·lσ(βx) − ε·lσ(−βx), x = sort(Δc) − sort(Δr) over the step",
        summary="alignment via optimal transport, without the pairing",
        options=own("pref_beta", "dpo_label_smoothing"),
        modifiers=("pref_ftx", "kl_coef", "pref_bco_weight", "ld_alpha"),
        couples_batch=True,
        start=LOG2,
        source="2406.05882",
        reproduces="`aot_unpaired` of TRL, but over the step on all devices instead of a micro-batch.",
        when_to_use="Good and bad answers to different or loosely related prompts.",
    ),
    _paired(
        name="apo_zero",
        formula="1 − σ(βΔc) + σ(βΔr)",
        summary="anchored preference optimisation: chosen up, rejected down",
        start=1.0,
        source="2408.06266",
        reproduces="`apo_zero` of TRL.",
        when_to_use="Chosen answers are better than the model's.",
    ),
    _paired(
        name="apo_down",
        formula="σ(βΔc) + 1 − σ(β(Δc − Δr))",
        summary="anchored preference optimisation: both down, rejected more",
        start=1.0,
        source="2408.06266",
        reproduces="`apo_down` of TRL.",
        when_to_use="The model's answers are already better than the chosen ones.",
    ),
    _paired(
        name="kto_pair",
        formula="½λ_D(1 − σ(βΔc − z_r)) + ½λ_U(1 − σ(z_c − βΔr)), z = max(0, β·mean) of each half",
        summary="KTO on the two halves of pairs",
        options=own("pref_beta", "kto_chosen_weight", "kto_rejected_weight"),
        couples_batch=True,
        start=lambda options, _: 0.25 * (options["kto_chosen_weight"] + options["kto_rejected_weight"]),
        source="2402.01306",
        reproduces="`kto_pair` of earlier TRL and LLaMA-Factory; only `kto` estimates the KL as the paper does.",
        when_to_use="Old configs; use `kto` for labels on single answers.",
    ),
)

REFERENCE_FREE = (
    _paired(
        name="simpo",
        formula="−lσ(β(ā − b̄) − γ)",
        summary="simple preference optimisation: per-token means and a margin, without a reference",
        options=own("simpo_gamma", pref_beta=replace(_BETA, default=2.0)),
        modifiers=("pref_ftx", "use_weighting"),
        needs_reference=False,
        length_normalised=True,
        source="2405.14734",
        reproduces="`simpo` of TRL (CPO trainer) and LLaMA-Factory; the authors' `gamma_beta_ratio` is γ/β.",
        when_to_use="Not enough memory for a reference, and answers should not get longer.",
    ),
    _paired(
        name="orpo",
        formula="−ā − λ·lσ(logit(ā) − logit(b̄)), logit(v) = v − log(1 − eᵛ)",
        summary="odds-ratio preference optimisation: SFT and preference in one stage",
        options=own("orpo_lambda"),
        modifiers=(),
        needs_reference=False,
        length_normalised=True,
        source="2403.07691",
        reproduces="`orpo` of LLaMA-Factory, whose λ is pref_beta (accepted here). TRL's SFT term covers the prompt.",
        when_to_use="Training a base model without an SFT stage before it.",
    ),
    _paired(
        name="cpo",
        formula="−lσ(β(a − b)) − α·ā",
        summary="contrastive preference optimisation: DPO with a uniform reference, plus an SFT term",
        options=own("pref_beta", "cpo_alpha"),
        modifiers=("use_weighting",),
        needs_reference=False,
        source="2401.08417",
        reproduces="`sigmoid` of TRL's CPO trainer, whose SFT term is the token mean of the micro-batch.",
        when_to_use="Near-perfect chosen answers (translation), and not enough memory for a reference.",
    ),
)

MULTI_OBJECTIVE = (
    _paired(
        name="multi_soft",
        formula="−p·lσ(βΔ) − (1−p)·lσ(−βΔ), p = Σ w_k·[1, ½ or 0 as chosen is better, equal or worse in k] "
        "or σ(Σ w_k(c_k − r_k)/T)",
        summary="DPO on several scored dimensions, with a soft label",
        options=own("pref_beta", "dimension_weights", "dimension_temperature"),
        start=LOG2,
        source="2305.18290",
        reproduces="Not in TRL or LLaMA-Factory. The weight of a dimension that a row lacks is shared among the "
        "others; without any dimension p = 1.",
        when_to_use="Rows with `dimensions`, traded off with weights of your choice.",
    ),
    _paired(
        name="multi_margin",
        aliases=("modpo",),
        formula="−lσ((1/w_k)[βΔ − Σ_{j≠k} w_j(s_j(chosen) − s_j(rejected))]), the pair ordered by dimension k",
        summary="MODPO: one dimension orders the pair, the others are margins",
        options=own("pref_beta", "dimension_weights", "dimension"),
        source="2310.03708",
        reproduces="The paper. Ties in k are dropped; a missing score in another dimension counts as no difference.",
        when_to_use="Scores of all other dimensions in units of reward, on one scale.",
    ),
)

PAIRED_ROWS = (*DIFFERENCE, *SEPARATE, *REFERENCE_FREE, *MULTI_OBJECTIVE)
