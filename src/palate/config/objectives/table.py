"""The one table of objectives: formula, options, needs, known loss at step 0, source, and which peer's option each is.

In the formulas `a, b` are sums of log π over the trained tokens of chosen and rejected, `a0, b0` the same under the
reference, `nc, nr` the token counts, `ā = a/nc`; Δc = a − a0, Δr = b − b0, Δ = Δc − Δr; lσ is log-sigmoid, ε the label
smoothing, u the log-ratio of one completion, r a reward head's output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from palate.config.objectives.paired import PAIRED_ROWS
from palate.config.objectives.row import LOG2, Objective, Options, own

__all__ = ["OBJECTIVES", "Objective"]


def _kto_start(options: Options, _: int) -> float | None:
    wanted, unwanted = options["kto_chosen_weight"], options["kto_rejected_weight"]
    return 0.5 * wanted if wanted == unwanted else None


def _bco_start(options: Options, _: int) -> float | None:
    wanted, unwanted = options["kto_chosen_weight"], options["kto_rejected_weight"]
    return LOG2 * wanted if wanted == unwanted else None


RANKED_ROWS = (
    Objective(
        name="plackett_luce",
        family="ranked",
        formula="−Σ_k [βu_k − log Σ_{j≥k} exp(βu_j)], best first",
        summary="DPO on ranked lists of any length; sigmoid at K = 2",
        options=own("pref_beta"),
        modifiers=("pref_ftx", "kl_coef"),
        start=lambda _, completions: math.log(math.factorial(completions)),
        source="2305.18290",
        reproduces="The paper's appendix A.3; no peer has it.",
        when_to_use="Rows that rank K ≥ 3 answers: more signal than the pairs cut from them.",
    ),
    Objective(
        name="rrhf",
        family="ranked",
        formula="Σ max(0, s_worse − s_better) − s_best, s = per-token mean log π",
        summary="rank responses: a hinge on every pair of the list and an SFT term, no reference",
        options=own(),
        modifiers=(),
        needs_reference=False,
        length_normalised=True,
        start=None,
        source="2304.05302",
        reproduces="The paper, its SFT term per token.",
        when_to_use="Ranked lists and no memory for a reference.",
    ),
)

UNPAIRED_ROWS = (
    Objective(
        name="kto",
        family="unpaired",
        formula="wanted: λ_D(1 − σ(βu − z)); unwanted: λ_U(1 − σ(z − βu)); z = max(0, β·KL estimate)",
        summary="Kahneman–Tversky optimisation",
        options=own("pref_beta", "kto_chosen_weight", "kto_rejected_weight"),
        modifiers=("pref_ftx", "kl_coef"),
        couples_batch=True,
        start=_kto_start,
        source="2402.01306",
        reproduces="`kto` of TRL and LLaMA-Factory; here the KL is the whole step's, and no row meets itself.",
        when_to_use="Thumbs up and down, no pairs.",
    ),
    Objective(
        name="apo_zero_unpaired",
        family="unpaired",
        formula="wanted: λ_D(1 − σ(βu)); unwanted: λ_U·σ(βu)",
        summary="APO-zero without pairs, and without a KL term",
        options=own("pref_beta", "kto_chosen_weight", "kto_rejected_weight"),
        modifiers=("pref_ftx", "kl_coef"),
        start=_kto_start,
        source="2408.06266",
        reproduces="`apo_zero_unpaired` of TRL's KTO trainer.",
        when_to_use="As kto, where the KL estimate is too noisy (small steps).",
    ),
    Objective(
        name="bco",
        family="unpaired",
        formula="wanted: −λ_D·lσ(βu − δ); unwanted: −λ_U·lσ(δ − βu); δ the running mean of all βu",
        summary="binary classifier optimisation",
        options=own("pref_beta", "kto_chosen_weight", "kto_rejected_weight"),
        modifiers=("pref_ftx", "kl_coef"),
        couples_batch=True,
        inputs=("delta",),
        start=_bco_start,
        source="2404.04656",
        reproduces="The paper without its density-ratio weights.",
        when_to_use="Thumbs up and down whose strength should not saturate.",
    ),
)

REWARD_ROWS = (
    Objective(
        name="bradley_terry",
        family="reward",
        formula="−lσ(r_c − r_r − margin) + c·(r_c + r_r)²",
        summary="a reward model from choices",
        options=own("center_rewards_coefficient"),
        modifiers=(),
        needs_reference=False,
        inputs=("margin",),
        start=None,
        source="2203.02155",
        reproduces="The reward trainers of TRL (margin and centring too) and LLaMA-Factory.",
        when_to_use="Pairs, and a later PPO, best-of-n or gate that needs a score.",
    ),
    Objective(
        name="reward_plackett_luce",
        family="reward",
        formula="−Σ_k [r_k − log Σ_{j≥k} exp(r_j)] + c·(Σ_k r_k)², best first",
        summary="a reward model from rankings",
        options=own("center_rewards_coefficient"),
        modifiers=(),
        needs_reference=False,
        start=None,
        source="2203.02155",
        reproduces="No peer has it; bradley_terry at K = 2.",
        when_to_use="Rows that rank K ≥ 3 answers.",
    ),
    Objective(
        name="reward_regression",
        family="reward",
        formula="(σ(r) − score)²",
        summary="a reward model from scores in [0, 1]",
        options=own(),
        modifiers=(),
        needs_reference=False,
        start=None,
        source="2406.08673",
        reproduces="No peer's by name; HelpSteer-style regression with a bounded head.",
        when_to_use="Rated answers without a comparison.",
    ),
)

OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {row.name: row for row in (*PAIRED_ROWS, *RANKED_ROWS, *UNPAIRED_ROWS, *REWARD_ROWS)}
)
