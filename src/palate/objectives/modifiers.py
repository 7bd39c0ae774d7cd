"""Modifiers of a loss or its inputs: divergences, length discount, WPO weights, SFT and KL terms.

`paired_loss`, `ranked_loss` and `unpaired_loss` combine an objective with its modifiers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.objectives.kl import k2
from palate.objectives.paired import PairLogps, log_ratios
from palate.objectives.ranked import RankedLogps
from palate.objectives.separate import bco_pair
from palate.objectives.unpaired import UnpairedLogps

Divergence: TypeAlias = Literal["reverse_kl", "forward_kl", "js", "alpha"]

# e^40 and its square are finite in float32.
_LARGEST_EXPONENT = 40.0


@dataclass(frozen=True, slots=True)
class Modifiers:
    """The modifiers of a run; the defaults change nothing.

    Attributes:
        sft: weight of −(per-token mean log π) of the chosen completion (`pref_ftx`).
        kl: weight of the `kl.k2` penalty on whole completions (`kl_coef`).
        bco: w in (L + w·L_bco)/(1 + w) (`pref_bco_weight`).
        f_divergence: the divergence that transforms the log-ratios (`f_divergence_type`).
        f_alpha: α of the alpha divergence (`f_alpha_divergence_coef`).
        ld_alpha: weight of the tokens beyond the shorter completion's length; `length_discount` applies it to tokens
            before the loss.
        weighting: use WPO's weights (`use_weighting`).
    """

    sft: float = 0.0
    kl: float = 0.0
    bco: float = 0.0
    f_divergence: Divergence = "reverse_kl"
    f_alpha: float = 0.5
    ld_alpha: float = 1.0
    weighting: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """One objective of a mixture: its function, its keyword arguments, its weight."""

    function: Callable[..., Tensor]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0


NONE = Modifiers()


def transform_log_ratio(log_ratio: Tensor, divergence: Divergence, *, alpha: float = 0.5) -> Tensor:
    """f′ of the divergence at t = e^x, up to a constant (2309.16240); it replaces the log-ratio x, any shape.

    reverse_kl x; forward_kl 1 − e^(−x); js log 2 + log σ(x); alpha (e^((α−1)x) − 1)/(α−1). α follows TRL (the paper's
    is 1 − α): 1 is reverse_kl, 0 is forward_kl. Exponents are clamped at 40.
    """
    if divergence == "forward_kl":
        return -torch.expm1((-log_ratio).clamp(max=_LARGEST_EXPONENT))
    if divergence == "js":
        return math.log(2.0) + logsigmoid(log_ratio)
    if divergence == "alpha" and abs(alpha - 1.0) >= 1e-6:
        return torch.expm1(((alpha - 1.0) * log_ratio).clamp(max=_LARGEST_EXPONENT)) / (alpha - 1.0)
    return log_ratio


def diverged(pairs: PairLogps, modifiers: Modifiers) -> PairLogps:
    """The pairs with transformed log-ratios, as log-probabilities against a reference of 0."""
    if modifiers.f_divergence == "reverse_kl":
        return pairs
    chosen, rejected = log_ratios(pairs)
    zero = torch.zeros_like(chosen)
    return replace(
        pairs,
        chosen=transform_log_ratio(chosen, modifiers.f_divergence, alpha=modifiers.f_alpha),
        rejected=transform_log_ratio(rejected, modifiers.f_divergence, alpha=modifiers.f_alpha),
        ref_chosen=zero,
        ref_rejected=zero,
    )


def length_discount(completion_of: Tensor, tokens: Tensor, partner_tokens: Tensor, *, alpha: float) -> Tensor:
    """LD-DPO's weight of each trained token (2409.06411), float32 [M]: 1 up to the partner's length, then α.

    Args:
        completion_of: [M], which completion each token belongs to, ascending.
        tokens: [C], trained tokens of each completion.
        partner_tokens: [C], trained tokens of the other completion of its pair.
        alpha: weight of the tail; policy and reference get the same weights.
    """
    first = tokens.cumsum(0) - tokens
    position = torch.arange(len(completion_of), device=completion_of.device) - first[completion_of]  # in its completion
    return torch.where(position < partner_tokens[completion_of], 1.0, alpha)


def sum_by_completion(values: Tensor, completion_of: Tensor, completions: int) -> Tensor:
    """Token values [M] summed over each of C completions, [C]; completion_of [M]."""
    return values.new_zeros(completions).index_add(0, completion_of, values)


def wpo_weights(token_logps: Tensor, log_square_sums: Tensor, completion_of: Tensor, tokens: Tensor) -> Tensor:
    """WPO's weight of each completion (2406.11827), [C], detached; a pair's weight is chosen's times rejected's.

    exp(mean over tokens of (log p − log Σ_v p_v²)): near 1 for answers that the policy would sample itself.

    Args:
        token_logps: [M], log p of each trained token under the policy.
        log_square_sums: [M], log Σ_v p_v² over the vocabulary at the same tokens.
        completion_of: [M].
        tokens: [C], trained tokens of each completion.
    """
    aligned = (token_logps - log_square_sums).detach()
    return torch.exp(sum_by_completion(aligned, completion_of, len(tokens)) / tokens.clamp(min=1))


def sft_loss(logps: Tensor, tokens: Tensor) -> Tensor:
    """−log π per trained token of each completion, any shape."""
    return -logps / tokens.clamp(min=1)


def paired_loss(
    pairs: PairLogps,
    terms: Sequence[Term],
    modifiers: Modifiers = NONE,
    *,
    discounted: PairLogps | None = None,
    weights: Tensor | None = None,
    delta: Tensor | float | None = None,
) -> Tensor:
    """The loss of n pairs, [n]: Σ weight·objective over `terms`, with the modifiers applied.

    Args:
        terms: the objectives of the mixture; a single one with weight 1 for a plain run.
        discounted: the pairs with `length_discount` applied to their sums; the objectives use these if given.
        weights: [n], WPO's weight of each pair; used when `modifiers.weighting`.
        delta: BCO's running mean, see `separate.bco_pair`; for the `bco` modifier.
    """
    summed = pairs if discounted is None else discounted
    inputs = diverged(summed, modifiers)
    zero = torch.zeros_like(pairs.chosen)
    loss = sum((term.weight * term.function(inputs, **term.arguments) for term in terms), zero)
    if modifiers.bco:
        beta = next(term.arguments["beta"] for term in terms if "beta" in term.arguments)
        loss = (loss + modifiers.bco * bco_pair(summed, beta=beta, delta=delta)) / (1.0 + modifiers.bco)
    if modifiers.weighting:
        if weights is None:
            raise ValueError("WPO weighs pairs by the policy's own probability, and no weights were given")
        loss = weights * loss
    if modifiers.sft:
        loss = loss + modifiers.sft * sft_loss(pairs.chosen, pairs.chosen_tokens)
    if modifiers.kl:
        chosen, rejected = log_ratios(pairs)
        loss = loss + modifiers.kl * 0.5 * (k2(chosen) + k2(rejected))
    return loss


def ranked_loss(rows: RankedLogps, term: Term, modifiers: Modifiers = NONE) -> Tensor:
    """The loss of n rankings, [n]; the SFT term applies to the best completion, the KL penalty is a mean over all K."""
    loss = term.weight * term.function(rows, **term.arguments)
    if modifiers.sft:
        loss = loss + modifiers.sft * sft_loss(rows.logps[:, 0], rows.tokens[:, 0])
    if modifiers.kl:
        if rows.ref_logps is None:
            raise ValueError("kl_coef compares with a reference, and the rankings carry no reference log-probabilities")
        penalties = k2(rows.logps - rows.ref_logps) * rows.present
        loss = loss + modifiers.kl * penalties.sum(-1) / rows.present.sum(-1)
    return loss


def unpaired_loss(rows: UnpairedLogps, term: Term, modifiers: Modifiers = NONE) -> Tensor:
    """The loss of n labelled completions, [n]; the SFT term applies to the wanted ones."""
    loss = term.weight * term.function(rows, **term.arguments)
    if modifiers.sft:
        loss = loss + modifiers.sft * rows.desirable * sft_loss(rows.logps, rows.tokens)
    if modifiers.kl:
        loss = loss + modifiers.kl * k2(rows.logps - rows.ref_logps)
    return loss
