"""A reward model: from choices (Bradley–Terry), from rankings (Plackett–Luce), or from scores (regression)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from palate.config.objectives.lookup import objective
from palate.errors import DataError
from palate.models.reward.head import Rewards, end_index
from palate.models.score import Logps
from palate.objectives import REWARD, RankedLogps, accuracy
from palate.records import PreferencePair, Ranking, Record, ScoredCompletion
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup
from palate.training.methods.base import LossOutput, Method, Rows
from palate.training.methods.ranked import of_others, ordered_share

RECORDS: Mapping[str, type[Record]] = MappingProxyType(
    {"bradley_terry": PreferencePair, "reward_plackett_luce": Ranking, "reward_regression": ScoredCompletion}
)


class Rm(Method[Tensor]):
    """Reads one reward per completion, [C].

    Args:
        name: an objective of the reward family.
        options: its resolved options, by config key.
        margin_weight: what a row's margin is multiplied with before r_chosen must exceed r_rejected by it.
    """

    head: ClassVar[str] = "reward"

    def __init__(self, name: str, options: Mapping[str, Any], *, margin_weight: float = 0.0) -> None:
        row = objective(name)
        self.name = row.name
        self.record = RECORDS[row.name]
        self._arguments = row.arguments(options)
        self._margin_weight = margin_weight
        losses: Mapping[str, Callable[[Tensor, Rows], LossOutput]] = {
            "bradley_terry": self._choices,
            "reward_plackett_luce": self._rankings,
            "reward_regression": self._scores,
        }
        self._loss = losses[row.name]

    def arrange(self, groups: Sequence[EncodedGroup], *, seed: int) -> list[EncodedGroup]:
        if self._margin_weight and groups and not any("margin" in group.extra for group in groups):
            raise DataError(
                f"margin_weight: {self._margin_weight:g}, but no row has a margin; remove the key or add the column"
            )
        return super().arrange(groups, seed=seed)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        return {"end_index": end_index(batch)}

    def read(self, output: Rewards, batch: Batch) -> Tensor:
        del batch
        return output.rewards

    def loss(self, policy: Tensor, reference: Logps | None, rows: Rows) -> LossOutput:
        del reference
        output = self._loss(policy, rows)
        return LossOutput(output.loss, {name: value.detach() for name, value in output.metrics.items()})

    def _choices(self, rewards: Tensor, rows: Rows) -> LossOutput:
        chosen, rejected = rewards[0::2], rewards[1::2]
        margin = None
        if self._margin_weight:
            margins = [group.extra.get("margin", 0.0) for group in rows.groups]
            margin = self._margin_weight * rewards.new_tensor(margins)
        loss = REWARD[self.name](chosen, rejected, margin=margin, **self._arguments)
        return LossOutput(loss, _as_pairs(chosen, rejected, accuracy(chosen, rejected)))

    def _rankings(self, rewards: Tensor, rows: Rows) -> LossOutput:
        # The one shape of a ranking is RankedLogps; rewards have no token counts.
        ranked = RankedLogps.from_flat(rewards, torch.ones_like(rewards), rows.group_of)
        table, present = ranked.logps, ranked.present
        loss = REWARD[self.name](table, present, **self._arguments)
        return LossOutput(loss, _as_pairs(table[:, 0], of_others(table, present), ordered_share(table, present)))

    def _scores(self, rewards: Tensor, rows: Rows) -> LossOutput:
        scores = rewards.new_tensor([group.labels[0] for group in rows.groups])
        loss = REWARD[self.name](rewards, scores, **self._arguments)
        predicted = rewards.sigmoid()
        return LossOutput(loss, {"score": scores, "predicted": predicted, "absolute_error": (predicted - scores).abs()})


def _as_pairs(chosen: Tensor, rejected: Tensor, right: Tensor) -> dict[str, Tensor]:
    """Under the names that all preference training has; of a ranking, rejected is the mean of all but the best."""
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": right,
    }
