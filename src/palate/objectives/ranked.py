"""Losses on rankings of K ≥ 2 completions of one prompt, best first, where K may differ from row to row; and losses for
reward models on pairs, rankings and scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True, slots=True)
class RankedLogps:
    """Log-probabilities of n rankings of up to K completions, float32, best first, padded on the right.

    Attributes:
        logps: [n, K], sum of log π(token) over the trained tokens of each completion; 0 for padding.
        tokens: [n, K], number of trained tokens of each completion.
        present: bool [n, K], False for padding.
        ref_logps: [n, K], the sums under the reference; None for reference-free objectives.
    """

    logps: Tensor
    tokens: Tensor
    present: Tensor
    ref_logps: Tensor | None = None

    @classmethod
    def from_flat(cls, logps: Tensor, tokens: Tensor, group_of: Tensor, ref_logps: Tensor | None = None) -> RankedLogps:
        """Rankings from flat tensors of C completions: logps, tokens, ref_logps [C], group_of [C] ascending from 0."""
        sizes = torch.bincount(group_of)
        first = sizes.cumsum(0) - sizes
        position = torch.arange(len(group_of), device=group_of.device) - first[group_of]
        shape = (len(sizes), int(sizes.max()) if len(sizes) else 0)

        def padded(values: Tensor) -> Tensor:
            return values.new_zeros(shape).index_put((group_of, position), values)

        present = padded(torch.ones_like(group_of, dtype=torch.bool))
        return cls(padded(logps), padded(tokens), present, None if ref_logps is None else padded(ref_logps))


def plackett_luce_nll(scores: Tensor, present: Tensor) -> Tensor:
    """−Σ_k [s_k − logsumexp_{j ≥ k} s_j], [n]: −log-probability of the order 1, 2, …, K; scores, present [n, K]."""
    scores = torch.where(present, scores, 0.0)
    index = torch.arange(scores.shape[1], device=scores.device)
    itself = index[:, None] == index
    rivals = (index[:, None] < index) & present[:, None, :]
    # [n, K, K]: row k has the scores of the completions k, k + 1, … Padding has only itself, so it adds s − s = 0.
    remaining = scores[:, None, :].masked_fill(~(rivals | itself), -torch.inf)
    return (torch.logsumexp(remaining, dim=-1) - scores).sum(-1)


def plackett_luce(rows: RankedLogps, *, beta: float) -> Tensor:
    """DPO on rankings (2305.18290, appendix A.3): the Plackett–Luce loss of the rewards βu, [n].

    u is the log-ratio of one completion. Equals `paired.sigmoid` at K = 2.
    """
    if rows.ref_logps is None:
        raise ValueError(
            "plackett_luce compares with a reference, and the rankings carry no reference log-probabilities"
        )
    return plackett_luce_nll(beta * (rows.logps - rows.ref_logps), rows.present)


def rrhf(rows: RankedLogps) -> Tensor:
    """RRHF (2304.05302): Σ max(0, s_worse − s_better) over all pairs − s_best, [n]; s in nats per token."""
    scores = rows.logps / rows.tokens.clamp(min=1)
    index = torch.arange(scores.shape[1], device=scores.device)
    better_then_worse = (index[:, None] < index) & rows.present[:, None, :]
    gaps = torch.relu(scores[:, None, :] - scores[:, :, None])
    return torch.where(better_then_worse, gaps, 0.0).sum((-1, -2)) - scores[:, 0]


def centred(rewards: Tensor, present: Tensor, *, centring: float) -> Tensor:
    """c·(Σ_k r_k)² per row, [n]; rewards [n, K]. Keeps rewards near 0: the other losses see only their differences."""
    return centring * torch.where(present, rewards, 0.0).sum(-1).square()


def bradley_terry(chosen: Tensor, rejected: Tensor, *, margin: Tensor | None = None, centring: float = 0.0) -> Tensor:
    """−log σ(r_c − r_r − margin) + c·(r_c + r_r)², [n]; chosen, rejected, margin [n] in units of reward."""
    difference = chosen - rejected
    if margin is not None:
        difference = difference - margin
    return -logsigmoid(difference) + centring * (chosen + rejected).square()


def reward_plackett_luce(rewards: Tensor, present: Tensor, *, centring: float = 0.0) -> Tensor:
    """Plackett–Luce on rewards [n, K], best first, present bool [n, K]; equals `bradley_terry` at K = 2, [n]."""
    return plackett_luce_nll(rewards, present) + centred(rewards, present, centring=centring)


def reward_regression(rewards: Tensor, scores: Tensor) -> Tensor:
    """(σ(r) − score)², [n]: regression on scores in [0, 1]; rewards, scores [n]."""
    return (torch.sigmoid(rewards) - scores).square()
