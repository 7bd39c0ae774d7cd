"""Losses on pairs that use only the difference between chosen and rejected: the sigmoid loss (DPO) and similar ones.

Also those that compare the differences over the whole step (alignment via optimal transport), and the implicit rewards
of a preference-trained policy.

Notation, for one pair: `a, b` sums of log π over the trained tokens of chosen and rejected, `a0, b0` the same under the
reference, `nc, nr` the token counts; Δc = a − a0, Δr = b − b0, Δ = Δc − Δr. Every loss returns one value per pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True, slots=True)
class PairLogps:
    """Log-probabilities of n pairs, float32.

    Attributes:
        chosen: [n], sum of log π(token) over the trained tokens of the chosen completion, under the policy.
        rejected: [n], the same for the rejected completion.
        chosen_tokens: [n], number of trained tokens in `chosen`.
        rejected_tokens: [n].
        ref_chosen: [n], the sum under the reference; None for reference-free objectives.
        ref_rejected: [n].
        chosen_scores: [n, D], scores of chosen on the D dimensions of a multi-objective loss, NaN if missing; None for
            all other losses.
        rejected_scores: [n, D].
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    chosen_scores: Tensor | None = None
    rejected_scores: Tensor | None = None


def log_ratios(pairs: PairLogps) -> tuple[Tensor, Tensor]:
    """Δc, Δr [n]: log π/π_ref of chosen and rejected, in nats per completion."""
    if pairs.ref_chosen is None or pairs.ref_rejected is None:
        raise ValueError("this objective compares with a reference, and the pairs carry no reference log-probabilities")
    return pairs.chosen - pairs.ref_chosen, pairs.rejected - pairs.ref_rejected


def mean_log_ratios(pairs: PairLogps) -> tuple[Tensor, Tensor]:
    """Δc/nc, Δr/nr [n]: the log-ratios in nats per trained token."""
    chosen, rejected = log_ratios(pairs)
    return chosen / pairs.chosen_tokens.clamp(min=1), rejected / pairs.rejected_tokens.clamp(min=1)


def smoothed(logits: Tensor, label_smoothing: float) -> Tensor:
    """−(1−ε)·log σ(logits) − ε·log σ(−logits), [n]: cross-entropy with labels that are wrong with probability ε."""
    if label_smoothing == 0.0:
        return -logsigmoid(logits)
    return -(1.0 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)


def sigmoid(pairs: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """DPO (2305.18290) and, with ε > 0, conservative DPO: −(1−ε)·log σ(βΔ) − ε·log σ(−βΔ), [n]."""
    chosen, rejected = log_ratios(pairs)
    return smoothed(beta * (chosen - rejected), label_smoothing)


def robust(pairs: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Robust DPO (2403.00409): [−(1−ε)·log σ(βΔ) + ε·log σ(−βΔ)] / (1−2ε), [n].

    An unbiased estimate of the clean loss when a share ε < 0.5 of the labels is flipped; it may be negative.
    """
    chosen, rejected = log_ratios(pairs)
    logits = beta * (chosen - rejected)
    clean, flipped = -logsigmoid(logits), -logsigmoid(-logits)
    return ((1.0 - label_smoothing) * clean - label_smoothing * flipped) / (1.0 - 2.0 * label_smoothing)


def hinge(pairs: PairLogps, *, beta: float) -> Tensor:
    """SLiC's hinge on the implicit reward (2305.10425, 2309.06657): max(0, 1 − βΔ), [n]."""
    chosen, rejected = log_ratios(pairs)
    return torch.relu(1.0 - beta * (chosen - rejected))


def ipo(pairs: PairLogps, *, beta: float, logps: Literal["mean", "sum"] = "mean") -> Tensor:
    """Identity preference optimisation (2310.12036): (δ − 1/(2β))², [n].

    δ = Δc/nc − Δr/nr for `mean` (nats per token, as its authors and TRL run it), Δ for `sum` (as the paper prints).
    """
    chosen, rejected = mean_log_ratios(pairs) if logps == "mean" else log_ratios(pairs)
    return (chosen - rejected - 1.0 / (2.0 * beta)).square()


def sigmoid_norm(pairs: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Length-normalised DPO (2411.15124): the sigmoid loss of β(Δc/nc − Δr/nr), [n]."""
    chosen, rejected = mean_log_ratios(pairs)
    return smoothed(beta * (chosen - rejected), label_smoothing)


def exo_pair(pairs: PairLogps, *, beta: float, label_smoothing: float = 1e-3) -> Tensor:
    """EXO for pairs (2402.00856), reverse KL from σ(±βΔ) to the labels (1−ε, ε), [n]; needs 0 < ε < 1.

    σ(βΔ)(log σ(βΔ) − log(1−ε)) + σ(−βΔ)(log σ(−βΔ) − log ε)
    """
    chosen, rejected = log_ratios(pairs)
    logits = beta * (chosen - rejected)
    labels = logits.new_tensor([1.0 - label_smoothing, label_smoothing]).log()
    right = torch.sigmoid(logits) * (logsigmoid(logits) - labels[0])
    wrong = torch.sigmoid(-logits) * (logsigmoid(-logits) - labels[1])
    return right + wrong


def discopop(pairs: PairLogps, *, beta: float, tau: float = 0.05) -> Tensor:
    """DiscoPOP (2406.08414): m·exp(−βΔ) + (1−m)·(−log σ(βΔ)) with m = σ(βΔ/τ), [n]; 0 < τ ≤ 1.

    Not convex: around Δ = 0 the loss rises with Δ.
    """
    chosen, rejected = log_ratios(pairs)
    logits = beta * (chosen - rejected)
    # m·exp(−x) as one exponential: for very negative x the factors are 0 and ∞, the product is 0.
    exponential = torch.exp(logsigmoid(logits / tau) - logits)
    return exponential - torch.sigmoid(-logits / tau) * logsigmoid(logits)


def dpop(pairs: PairLogps, *, beta: float, penalty: float = 50.0) -> Tensor:
    """DPO-Positive (2402.13228): −log σ(β(Δ − λ·max(0, a0 − a))), [n]; the penalty keeps log π(chosen) from falling."""
    chosen, rejected = log_ratios(pairs)
    return -logsigmoid(beta * (chosen - rejected - penalty * torch.relu(-chosen)))


def r_dpo(pairs: PairLogps, *, beta: float, alpha: float = 0.01) -> Tensor:
    """Length-regularised DPO (2403.19159): −log σ(βΔ + α(nc − nr)), [n]; α in reward per token.

    At the optimum of E[r − α·length] − β·KL, r = β·log-ratio + α·length + const. This gives the sign: if chosen is
    longer, its length already explains part of the preference, and the gradient is smaller.
    """
    chosen, rejected = log_ratios(pairs)
    return -logsigmoid(beta * (chosen - rejected) + alpha * (pairs.chosen_tokens - pairs.rejected_tokens))


def implicit_reward(logps: Tensor, tokens: Tensor, ref_logps: Tensor | None, *, beta: float, average: bool) -> Tensor:
    """β·(log π − log π_ref) of completions, any shape, or β·log π without a reference; per token if `average`."""
    values = logps if ref_logps is None else logps - ref_logps
    return beta * (values / tokens.clamp(min=1) if average else values)


def implicit_rewards(
    pairs: PairLogps, *, beta: float, average: bool = False, reference_free: bool = False
) -> tuple[Tensor, Tensor]:
    """Rewards of chosen and rejected, [n] each, detached, in the units that the loss optimises.

    Args:
        average: the loss uses per-token means, so rewards are per token too.
        reference_free: the loss uses no reference, so rewards are β·log π even if the pairs have reference values.
    """
    ref_chosen, ref_rejected = (None, None) if reference_free else (pairs.ref_chosen, pairs.ref_rejected)
    if not reference_free and (ref_chosen is None or ref_rejected is None):
        raise ValueError("rewards need a reference, and the pairs carry no reference log-probabilities")
    chosen = implicit_reward(pairs.chosen, pairs.chosen_tokens, ref_chosen, beta=beta, average=average)
    rejected = implicit_reward(pairs.rejected, pairs.rejected_tokens, ref_rejected, beta=beta, average=average)
    return chosen.detach(), rejected.detach()


def accuracy(chosen: Tensor, rejected: Tensor) -> Tensor:
    """1 where chosen is above rejected, 0 where below, ½ where equal, [n]; chosen and rejected are rewards [n]."""
    return 0.5 * (1.0 + (chosen - rejected).sign())


def aot(pairs: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """AOT for paired data (2406.05882): the smoothed sigmoid loss of βx, x = sort(a − b) − sort(a0 − b0), [n].

    The policy's margins should exceed the reference's margins quantile by quantile. The n pairs must be all pairs of
    the optimiser step. Loss i belongs to pair i: it compares the pair's policy margin with the reference margin of the
    same rank.
    """
    if pairs.ref_chosen is None or pairs.ref_rejected is None:
        raise ValueError("aot compares with a reference, and the pairs carry no reference log-probabilities")
    policy = pairs.chosen - pairs.rejected
    reference = pairs.ref_chosen - pairs.ref_rejected
    return smoothed(beta * _over_quantiles(policy, reference), label_smoothing)


def aot_unpaired(pairs: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """AOT for unpaired data (2406.05882): as `aot`, with x = sort(Δc) − sort(Δr), [n].

    Loss i belongs to pair i: it compares the pair's Δc with the Δr of the same rank.
    """
    chosen, rejected = log_ratios(pairs)
    return smoothed(beta * _over_quantiles(chosen, rejected), label_smoothing)


def _over_quantiles(upper: Tensor, lower: Tensor) -> Tensor:
    """Each element of `upper` [n] minus the element of `lower` [n] of the same rank, [n]."""
    rank_of_upper = torch.argsort(torch.argsort(upper.detach(), stable=True), stable=True)
    return upper - torch.sort(lower).values[rank_of_upper]
