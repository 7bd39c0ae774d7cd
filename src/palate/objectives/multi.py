"""Losses for pairs that are scored on several dimensions (helpfulness, safety …) with a weight for each.

A missing score is NaN. For the soft label, its weight is distributed over the row's other dimensions; a row without any
scores keeps its order (p = 1). For the margin form, a missing difference counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.objectives.paired import PairLogps, log_ratios


def preference(
    chosen_scores: Tensor, rejected_scores: Tensor, *, weights: Sequence[float], temperature: float | None = None
) -> Tensor:
    """Probability p that chosen is better, over all dimensions, [n]; scores [n, D], D weights that sum to 1.

    Without a temperature p = Σ w_k·[1, ½ or 0 if chosen is better, equal or worse in dimension k]; with a temperature
    p = σ(Σ w_k(c_k − r_k)/T), T in units of score.
    """
    difference = (chosen_scores - rejected_scores).float()
    known = ~torch.isnan(difference)
    difference = torch.where(known, difference, 0.0)
    weight = known * difference.new_tensor(list(weights))
    total = weight.sum(-1)
    share = weight / total.clamp(min=torch.finfo(total.dtype).tiny)[:, None]
    if temperature is None:
        p = (share * 0.5 * (1.0 + difference.sign())).sum(-1)
    else:
        p = torch.sigmoid((share * difference).sum(-1) / temperature)
    return torch.where(total > 0, p, 1.0)


def multi_soft(pairs: PairLogps, *, beta: float, weights: Sequence[float], temperature: float | None = None) -> Tensor:
    """DPO with the soft label of all dimensions: p·(−log σ(βΔ)) + (1−p)·(−log σ(−βΔ)), [n]."""
    chosen_scores, rejected_scores = _scores(pairs)
    p = preference(chosen_scores, rejected_scores, weights=weights, temperature=temperature)
    chosen, rejected = log_ratios(pairs)
    logits = beta * (chosen - rejected)
    return -p * logsigmoid(logits) - (1.0 - p) * logsigmoid(-logits)


def multi_margin(pairs: PairLogps, *, beta: float, weights: Sequence[float], dimension: int) -> Tensor:
    """MODPO (2310.03708): −log σ((1/w_k)[βΔ − Σ_{j≠k} w_j(s_j(chosen) − s_j(rejected))]), [n], ordered by dimension k.

    If dimension k prefers rejected, the pair is swapped; if the scores in k are equal or missing, loss and gradient are
    0. Scores are in units of reward, so put them on one scale first.
    """
    chosen_scores, rejected_scores = _scores(pairs)
    # [n, D], 0 where a score is missing; float, since scores may be whole numbers.
    difference = torch.nan_to_num((chosen_scores - rejected_scores).float(), nan=0.0)
    order = difference[:, dimension].sign()
    others = difference.new_tensor([0.0 if j == dimension else weight for j, weight in enumerate(weights)])
    chosen, rejected = log_ratios(pairs)
    logits = order * (beta * (chosen - rejected) - difference @ others) / weights[dimension]
    return -logsigmoid(logits) * order.abs()


def _scores(pairs: PairLogps) -> tuple[Tensor, Tensor]:
    if pairs.chosen_scores is None or pairs.rejected_scores is None:
        raise ValueError("this objective weighs dimensions, and the pairs carry no scores")
    return pairs.chosen_scores, pairs.rejected_scores
