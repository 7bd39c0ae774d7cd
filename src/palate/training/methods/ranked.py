"""Preference training on rankings of any length K ≥ 2, best first."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.config.run import DpoConfig
from palate.models.scoring.logps import Logps
from palate.objectives import RANKED, Modifiers, RankedLogps, Term, implicit_reward, ranked_loss
from palate.records import Ranking
from palate.training.methods.base import LossOutput, Method, Rows, Traits, detached


class Ranked(Method[Logps]):
    """plackett_luce and rrhf.

    The metrics of pairs have their meaning for rankings: chosen is the best answer, rejected the mean of the others,
    and accuracy is the share of the K(K − 1)/2 pairs that the rewards order as the ranking does.
    """

    def __init__(self, config: DpoConfig) -> None:
        row, options = config.objectives[0].row, config.objectives[0].options
        self._term = Term(RANKED[row.name], row.arguments(options))
        self._modifiers = Modifiers(**row.modifier_arguments(options))
        self._average = row.averages(options)
        self._beta = row.reward_scale(options)
        self.traits = Traits(
            name=row.name,
            record=Ranking,
            needs_reference=row.needs_reference,
            # It follows from the length of the ranking: log K! for plackett_luce.
            start_loss=lambda completions: row.loss_at_start(options, completions=completions),
        )

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        del training
        ranked = RankedLogps.from_flat(
            policy.sums, policy.tokens, rows.group_of, None if reference is None else reference.sums
        )
        loss = ranked_loss(ranked, self._term, self._modifiers)
        with torch.no_grad():
            return LossOutput(loss, detached(self._metrics(ranked)))

    def _metrics(self, ranked: RankedLogps) -> dict[str, Tensor]:
        rewards = implicit_reward(ranked.logps, ranked.tokens, ranked.ref_logps, beta=self._beta, average=self._average)
        metrics = {
            **reward_metrics(rewards, ranked.present),
            "logps/chosen": ranked.logps[:, 0],
            "logps/rejected": of_others(ranked.logps, ranked.present),
        }
        if ranked.ref_logps is not None:
            metrics |= {
                "ref_logps/chosen": ranked.ref_logps[:, 0],
                "ref_logps/rejected": of_others(ranked.ref_logps, ranked.present),
            }
        return metrics


def reward_metrics(rewards: Tensor, present: Tensor) -> dict[str, Tensor]:
    """Rewards of the best answer and of the others, margin and accuracy, [n]; rewards, present [n, K], best first."""
    chosen, rejected = rewards[:, 0], of_others(rewards, present)
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": ordered_share(rewards, present),
    }


def of_others(values: Tensor, present: Tensor) -> Tensor:
    """The mean over all answers of a ranking but the best, [n]; values, present [n, K], best first."""
    others = present[:, 1:]
    return torch.where(others, values[:, 1:], 0.0).sum(-1) / others.sum(-1)


def ordered_share(scores: Tensor, present: Tensor) -> Tensor:
    """Share of a ranking's pairs that the scores order as it does, a tie ½, [n]; scores, present [n, K], best first."""
    index = torch.arange(scores.shape[1], device=scores.device)
    pairs = (index[:, None] < index) & present[:, None, :] & present[:, :, None]
    right = 0.5 * (1.0 + (scores[:, :, None] - scores[:, None, :]).sign())
    return torch.where(pairs, right, 0.0).sum((-1, -2)) / pairs.sum((-1, -2))
