"""The rewards that a preference-trained policy implies, and what is read off them."""

from __future__ import annotations

from torch import Tensor

from palate.objectives.paired import PairLogps

__all__ = ["accuracy", "implicit_reward", "implicit_rewards"]


def implicit_reward(logps: Tensor, tokens: Tensor, ref_logps: Tensor | None, *, beta: float, average: bool) -> Tensor:
    """β·(log π − log π_ref) of completions, any shape, or β·log π without a reference; per token if `average`."""
    values = logps if ref_logps is None else logps - ref_logps
    return beta * (values / tokens.clamp(min=1) if average else values)


def implicit_rewards(
    pairs: PairLogps, *, beta: float, average: bool = False, reference_free: bool = False
) -> tuple[Tensor, Tensor]:
    """Rewards of chosen and rejected, [n] each, detached, in the units that the loss optimises.

    Args:
        beta: β of the objective.
        average: the loss reads per-token means, so rewards are per token too.
        reference_free: the loss reads no reference, so rewards are β·log π even when the pairs carry one.
    """
    ref_chosen, ref_rejected = (None, None) if reference_free else (pairs.ref_chosen, pairs.ref_rejected)
    if not reference_free and (ref_chosen is None or ref_rejected is None):
        raise ValueError(
            "rewards against a reference were asked for, and the pairs carry no reference log-probabilities"
        )
    chosen = implicit_reward(pairs.chosen, pairs.chosen_tokens, ref_chosen, beta=beta, average=average)
    rejected = implicit_reward(pairs.rejected, pairs.rejected_tokens, ref_rejected, beta=beta, average=average)
    return chosen.detach(), rejected.detach()


def accuracy(chosen: Tensor, rejected: Tensor) -> Tensor:
    """1 where chosen is above rejected, 0 where below, ½ where equal; rewards in, [n] out."""
    return 0.5 * (1.0 + (chosen - rejected).sign())
