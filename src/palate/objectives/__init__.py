"""Losses: pure functions from tensors and keyword numbers to one loss per example. torch, and nothing of ours.

The tables map an objective's name to its function; a test asserts that names, options and defaults agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from palate.objectives import distribution, multi, paired, ranked, reference_free, reward, separate, unpaired
from palate.objectives.modifiers import Modifiers, Term, paired_loss, ranked_loss, unpaired_loss
from palate.objectives.paired import PairLogps, accuracy, implicit_reward, implicit_rewards
from palate.objectives.ranked import RankedLogps
from palate.objectives.separate import RunningMean
from palate.objectives.unpaired import UnpairedLogps

__all__ = [
    "PAIRED",
    "RANKED",
    "REWARD",
    "UNPAIRED",
    "Modifiers",
    "PairLogps",
    "RankedLogps",
    "RunningMean",
    "Term",
    "UnpairedLogps",
    "accuracy",
    "implicit_reward",
    "implicit_rewards",
    "paired_loss",
    "ranked_loss",
    "unpaired_loss",
]

PAIRED: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "sigmoid": paired.sigmoid,
        "robust": paired.robust,
        "hinge": paired.hinge,
        "ipo": paired.ipo,
        "sigmoid_norm": paired.sigmoid_norm,
        "exo_pair": paired.exo_pair,
        "nca_pair": separate.nca_pair,
        "bco_pair": separate.bco_pair,
        "sppo_hard": separate.sppo_hard,
        "aot": distribution.aot,
        "aot_unpaired": distribution.aot_unpaired,
        "apo_zero": separate.apo_zero,
        "apo_down": separate.apo_down,
        "discopop": paired.discopop,
        "dpop": paired.dpop,
        "r_dpo": paired.r_dpo,
        "kto_pair": separate.kto_pair,
        "simpo": reference_free.simpo,
        "orpo": reference_free.orpo,
        "cpo": reference_free.cpo,
        "multi_soft": multi.multi_soft,
        "multi_margin": multi.multi_margin,
    }
)

RANKED: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"plackett_luce": ranked.plackett_luce, "rrhf": ranked.rrhf}
)

UNPAIRED: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"kto": unpaired.kto, "apo_zero_unpaired": unpaired.apo_zero_unpaired, "bco": unpaired.bco}
)

REWARD: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "bradley_terry": reward.bradley_terry,
        "reward_plackett_luce": reward.reward_plackett_luce,
        "reward_regression": reward.reward_regression,
    }
)
