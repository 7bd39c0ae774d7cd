"""The table of all objectives: formula, options, needs, known loss at step 0, source, and equivalents elsewhere.

In the formulas `a, b` are sums of log π over the trained tokens of chosen and rejected, `a0, b0` the same under the
reference, `nc, nr` the token counts, `ā = a/nc`; Δc = a − a0, Δr = b − b0, Δ = Δc − Δr; lσ is log-sigmoid, ε the label
smoothing, u the log-ratio of one answer, r a reward head's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from palate.config.objectives.paired import PAIRED_ROWS
from palate.config.objectives.row import LOG2, Objective, Options, own
from palate.errors import ConfigError
from palate.plugins import all_plugins, plugin_points

_ranked = partial(Objective, family="ranked")
_unpaired = partial(Objective, family="unpaired", modifiers=("pref_ftx", "kl_coef"))
_reward = partial(Objective, family="reward", needs_reference=False)


def _if_weights_are_equal(loss: float) -> Callable[[Options, int], float | None]:
    """Loss at step 0 for equal class weights; with unequal ones it depends on how many answers are desirable."""

    def start(options: Options, _: int) -> float | None:
        weight = options["kto_chosen_weight"]
        return float(loss * weight) if weight == options["kto_rejected_weight"] else None

    return start


RANKED_ROWS = (
    _ranked(
        name="plackett_luce",
        aliases=("listwise",),
        formula="−Σ_k [βu_k − log Σ_{j≥k} exp(βu_j)], best first",
        summary="DPO on ranked lists of any length; sigmoid at K = 2",
        modifiers=("pref_ftx", "kl_coef"),
        start=lambda _, completions: math.log(math.factorial(completions)),
        source="2305.18290",
        reproduces="Appendix A.3 of the paper. Not in TRL or LLaMA-Factory.",
        when_to_use="Rows that rank K ≥ 3 answers: uses the whole ranking instead of pairs made from it.",
    ),
    _ranked(
        name="rrhf",
        formula="Σ max(0, s_worse − s_better) − s_best, s = per-token mean log π",
        summary="hinge on every pair of the ranking plus an SFT term, without a reference",
        options=own(),
        needs_reference=False,
        length_normalised=True,
        source="2304.05302",
        reproduces="The paper, its SFT term per token.",
        when_to_use="Rankings, and not enough memory for a reference.",
    ),
)

UNPAIRED_ROWS = (
    _unpaired(
        name="kto",
        formula="desirable: λ_D(1 − σ(βu − z)); undesirable: λ_U(1 − σ(z − βu)); z = max(0, β·KL estimate)",
        summary="Kahneman–Tversky optimisation",
        options=own("pref_beta", "kto_chosen_weight", "kto_rejected_weight"),
        couples_batch=True,
        start=_if_weights_are_equal(0.5),
        source="2402.01306",
        reproduces="`kto` of TRL and LLaMA-Factory; the KL is estimated on the whole step here, without comparing a "
        "row with itself.",
        when_to_use="Answers with a thumb up or down instead of pairs.",
    ),
    _unpaired(
        name="apo_zero_unpaired",
        formula="desirable: λ_D(1 − σ(βu)); undesirable: λ_U·σ(βu)",
        summary="APO-zero without pairs, and without a KL term",
        options=own("pref_beta", "kto_chosen_weight", "kto_rejected_weight"),
        start=_if_weights_are_equal(0.5),
        source="2408.06266",
        reproduces="`apo_zero_unpaired` of TRL's KTO trainer.",
        when_to_use="Like kto, for small batches whose KL estimate is too noisy.",
    ),
    _unpaired(
        name="bco",
        formula="desirable: −λ_D·lσ(βu − δ); undesirable: −λ_U·lσ(δ − βu); δ the running mean of all βu",
        summary="binary classifier optimisation",
        options=own("pref_beta", "kto_chosen_weight", "kto_rejected_weight"),
        couples_batch=True,
        inputs=("delta",),
        start=_if_weights_are_equal(LOG2),
        source="2404.04656",
        reproduces="The paper without its density-ratio weights.",
        when_to_use="Like kto, but with a gradient that does not vanish for large rewards.",
    ),
)

REWARD_ROWS = (
    _reward(
        name="bradley_terry",
        formula="−lσ(r_c − r_r − margin) + c·(r_c + r_r)²",
        summary="reward model from pairs",
        options=own("center_rewards_coefficient"),
        inputs=("margin",),
        source="2203.02155",
        reproduces="The reward trainers of TRL (margin and centring too) and LLaMA-Factory.",
        when_to_use="Pairs, and a later step that needs a score: PPO, GRPO, best-of-n.",
    ),
    _reward(
        name="reward_plackett_luce",
        formula="−Σ_k [r_k − log Σ_{j≥k} exp(r_j)] + c·(Σ_k r_k)², best first",
        summary="reward model from rankings",
        options=own("center_rewards_coefficient"),
        source="2203.02155",
        reproduces="Not in TRL or LLaMA-Factory; equals bradley_terry at K = 2.",
        when_to_use="Rows that rank K ≥ 3 answers.",
    ),
    _reward(
        name="reward_regression",
        formula="(σ(r) − score)²",
        summary="reward model from scores in [0, 1]",
        options=own(),
        source="2406.08673",
        reproduces="Not in TRL or LLaMA-Factory; regression as in HelpSteer2, with a bounded head.",
        when_to_use="Rated single answers.",
    ),
)

_BUILT_IN = {row.name: row for row in (*PAIRED_ROWS, *RANKED_ROWS, *UNPAIRED_ROWS, *REWARD_ROWS)}


def _plugins() -> dict[str, Objective]:
    """Rows of other packages; their functions are the plug-ins `losses` of the same names."""
    rows: dict[str, Objective] = all_plugins("objectives")
    for name, row in rows.items():
        fits = isinstance(row, Objective) and (row.name, row.family) == (name, "paired")
        if not fits or name in _BUILT_IN or name not in plugin_points("losses"):
            raise ConfigError(
                f"objective {name} of a plug-in: it needs a name of its own, family paired, and its function under "
                "palate.losses; uninstall or mend the package"
            )
    return rows


OBJECTIVES: Mapping[str, Objective] = MappingProxyType({**_BUILT_IN, **_plugins()})
