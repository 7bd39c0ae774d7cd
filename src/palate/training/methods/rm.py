"""A reward model: from choices (Bradley–Terry), from rankings (Plackett–Luce), or from scores (regression)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from palate.config.run import RmConfig
from palate.errors import DataError
from palate.models.scoring.logps import Logps
from palate.objectives import REWARD, RankedLogps
from palate.records import PreferencePair, Ranking, Record, ScoredCompletion
from palate.text.groups import EncodedGroup
from palate.training.methods.base import Arranged, LossOutput, Method, Rows, Traits, detached
from palate.training.methods.ranked import reward_metrics

RECORDS: Mapping[str, type[Record]] = MappingProxyType(
    {"bradley_terry": PreferencePair, "reward_plackett_luce": Ranking, "reward_regression": ScoredCompletion}
)


class Rm(Method[Tensor]):
    """Reads one reward per completion, [C]."""

    def __init__(self, config: RmConfig) -> None:
        row = config.objectives[0].row
        self._loss = REWARD[row.name]
        self._arguments = row.arguments(config.objective_options)
        self._margin_weight = config.margin_weight
        self.traits = Traits(name=row.name, record=RECORDS[row.name], head="reward")

    def arrange(self, groups: Sequence[EncodedGroup], *, seed: int) -> Arranged:
        if self._margin_weight and groups and all(group.margin is None for group in groups):
            raise DataError(
                f"margin_weight: {self._margin_weight:g}, but no row has a margin; remove the key or add the column"
            )
        return super().arrange(groups, seed=seed)

    def loss(self, policy: Tensor, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        """The losses of the groups; policy [C] has the rewards of their completions."""
        del reference, training
        if self.traits.record is ScoredCompletion:
            scores, predicted = policy.new_tensor([group.labels[0] for group in rows.groups]), policy.sigmoid()
            loss = self._loss(policy, scores, **self._arguments)
            errors = (predicted - scores).abs()
            return LossOutput(loss, detached({"score": scores, "predicted": predicted, "absolute_error": errors}))
        # Rewards [n, K], best first: of a pair, chosen and rejected. Rewards have no token counts.
        ranked = RankedLogps.from_flat(policy, torch.ones_like(policy), rows.group_of)
        rewards, present = ranked.logps, ranked.present
        if self.traits.record is PreferencePair:
            margins = [self._margin_weight * (group.margin or 0.0) for group in rows.groups]
            loss = self._loss(rewards[:, 0], rewards[:, 1], margin=rewards.new_tensor(margins), **self._arguments)
        else:
            loss = self._loss(rewards, present, **self._arguments)
        return LossOutput(loss, detached(reward_metrics(rewards, present)))
