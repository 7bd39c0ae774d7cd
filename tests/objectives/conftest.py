"""Pairs that the tests of the losses share: one to reckon with by hand, many at random, some at extremes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from palate.objectives import PairLogps


@pytest.fixture
def pair() -> PairLogps:
    """One pair: Δc = 1, Δr = −2, Δ = 3; nc = 2, nr = 4, so Δc/nc = ½, Δr/nr = −½; ā = −5, b̄ = −3.5."""
    return PairLogps(
        chosen=torch.tensor([-10.0]),
        rejected=torch.tensor([-14.0]),
        chosen_tokens=torch.tensor([2]),
        rejected_tokens=torch.tensor([4]),
        ref_chosen=torch.tensor([-11.0]),
        ref_rejected=torch.tensor([-12.0]),
    )


@pytest.fixture
def random_pairs() -> Callable[..., PairLogps]:
    """n pairs with gradients, 5 to 40 tokens each, 3 dimensions of scores from 1 to 5."""

    def build(n: int = 8, seed: int = 0) -> PairLogps:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(5, 40, (2, n), generator=generator)
        ref = -1.5 * tokens - 4.0 * torch.rand(2, n, generator=generator)
        policy = ref + 3.0 * torch.randn(2, n, generator=generator)
        scores = torch.randint(1, 6, (2, n, 3), generator=generator).float()
        return PairLogps(
            chosen=policy[0].clone().requires_grad_(),
            rejected=policy[1].clone().requires_grad_(),
            chosen_tokens=tokens[0],
            rejected_tokens=tokens[1],
            ref_chosen=ref[0],
            ref_rejected=ref[1],
            chosen_scores=scores[0],
            rejected_scores=scores[1],
        )

    return build


@pytest.fixture
def extreme_pairs() -> PairLogps:
    """All 16 ways for the four sums to be 0 or −10⁴, with gradients: log-ratios of −10⁴, 0 and 10⁴."""
    ends = torch.tensor([0.0, -1e4])
    chosen, rejected, ref_chosen, ref_rejected = torch.cartesian_prod(ends, ends, ends, ends).T
    return PairLogps(
        chosen=chosen.clone().requires_grad_(),
        rejected=rejected.clone().requires_grad_(),
        chosen_tokens=torch.ones(16, dtype=torch.int64),
        rejected_tokens=torch.full((16,), 3),
        ref_chosen=ref_chosen.clone(),
        ref_rejected=ref_rejected.clone(),
        chosen_scores=torch.tensor([[5.0, 1.0, float("nan")]]).expand(16, 3),
        rejected_scores=torch.tensor([[1.0, 5.0, 2.0]]).expand(16, 3),
    )
