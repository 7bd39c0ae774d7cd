"""Losses: pure functions from tensors and keyword numbers to one loss per example. They import torch only.

The tables map an objective's name to its function; a test asserts that options and defaults agree with the config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from palate.objectives import multi, paired, ranked, reference_free, separate, unpaired
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


def _by_name(*functions: Callable[..., Tensor]) -> Mapping[str, Callable[..., Tensor]]:
    return MappingProxyType({function.__name__: function for function in functions})


PAIRED = _by_name(
    paired.sigmoid,
    paired.robust,
    paired.hinge,
    paired.ipo,
    paired.sigmoid_norm,
    paired.exo_pair,
    separate.nca_pair,
    separate.bco_pair,
    separate.sppo_hard,
    paired.aot,
    paired.aot_unpaired,
    separate.apo_zero,
    separate.apo_down,
    paired.discopop,
    paired.dpop,
    paired.r_dpo,
    separate.kto_pair,
    reference_free.simpo,
    reference_free.orpo,
    reference_free.cpo,
    multi.multi_soft,
    multi.multi_margin,
)
RANKED = _by_name(ranked.plackett_luce, ranked.rrhf)
UNPAIRED = _by_name(unpaired.kto, unpaired.apo_zero_unpaired, unpaired.bco)
REWARD = _by_name(ranked.bradley_terry, ranked.reward_plackett_luce, ranked.reward_regression)
