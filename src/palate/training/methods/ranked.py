"""Preference training on rankings of any length K ≥ 2, best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from palate.config.objectives.lookup import objective
from palate.models.score import Logps
from palate.objectives import RANKED, Modifiers, RankedLogps, Term, implicit_reward, ranked_loss
from palate.records import Ranking, Record
from palate.text.encode import EncodedGroup
from palate.training.methods.base import LogpsMethod, LossOutput, Rows


class Ranked(LogpsMethod):
    """plackett_luce and rrhf.

    The metrics of pairs have their meaning for rankings: chosen is the best answer, rejected the mean of the others,
    and accuracy is the share of the K(K − 1)/2 pairs that the rewards order as the ranking does.

    Args:
        name: an objective of the ranked family.
        options: its resolved options, by config key.
    """

    record: type[Record] = Ranking

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._row = objective(name)
        self._options = options
        self.name = self._row.name
        self.needs_reference = self._row.needs_reference
        self._term = Term(RANKED[self.name], self._row.arguments(options))
        self._modifiers = Modifiers(**self._row.modifier_arguments(options))
        self._average = self._row.averages(options)
        self._beta = self._row.reward_scale(options)

    def loss_at_start(self, group: EncodedGroup) -> float | None:
        """It follows from the length of the ranking: log K! for plackett_luce."""
        return self._row.loss_at_start(self._options, completions=len(group.completions))

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows) -> LossOutput:
        ranked = RankedLogps.from_flat(
            policy.sums, policy.tokens, rows.group_of, None if reference is None else reference.sums
        )
        loss = ranked_loss(ranked, self._term, self._modifiers)
        with torch.no_grad():
            metrics = self._metrics(ranked)
        return LossOutput(loss, {name: value.detach() for name, value in metrics.items()})

    def _metrics(self, ranked: RankedLogps) -> dict[str, torch.Tensor]:
        rewards = implicit_reward(ranked.logps, ranked.tokens, ranked.ref_logps, beta=self._beta, average=self._average)
        chosen, rejected = rewards[:, 0], of_others(rewards, ranked.present)
        metrics = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": ordered_share(rewards, ranked.present),
            "logps/chosen": ranked.logps[:, 0],
            "logps/rejected": of_others(ranked.logps, ranked.present),
        }
        if ranked.ref_logps is not None:
            metrics |= {
                "ref_logps/chosen": ranked.ref_logps[:, 0],
                "ref_logps/rejected": of_others(ranked.ref_logps, ranked.present),
            }
        return metrics


def of_others(values: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """The mean over all answers of a ranking but the best, [n]; values, present [n, K], best first."""
    others = present[:, 1:]
    return torch.where(others, values[:, 1:], 0.0).sum(-1) / others.sum(-1)


def ordered_share(scores: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Share of a ranking's pairs that the scores order as it does, a tie ½, [n]; scores, present [n, K], best first."""
    places = torch.arange(scores.shape[1], device=scores.device)
    pairs = (places[:, None] < places) & present[:, None, :] & present[:, :, None]
    right = 0.5 * (1.0 + (scores[:, :, None] - scores[:, None, :]).sign())
    return torch.where(pairs, right, 0.0).sum((-1, -2)) / pairs.sum((-1, -2))
