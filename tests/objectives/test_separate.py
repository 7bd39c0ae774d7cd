from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from palate.objectives import PairLogps, RunningMean
from palate.objectives.separate import apo_down, apo_zero, bco_pair, kto_pair, nca_pair, sppo_hard

# β = ½: βΔc = ½, βΔr = −1, βΔ = 1.5. σ(½) = 0.6224593, σ(−1) = 0.2689414, σ(1.5) = 0.8175745.
GOLDEN = [
    # 0.4740770 + ½·0.9740770 + ½·0.3132617, that is −log σ(½) − ½·log σ(−½) − ½·log σ(1)
    (nca_pair, {"beta": 0.5}, 1.1177463),
    # −log σ(½ − ¼) − log σ(¼ + 1) = 0.5759394 + 0.2519290
    (bco_pair, {"beta": 0.5, "delta": 0.25}, 0.8278684),
    # δ = mean(½, −1) = −¼: −log σ(¾) twice
    (bco_pair, {"beta": 0.5}, 0.7737420),
    # 1/(2β) = 1: (1 − 1)² + (−2 + 1)²
    (sppo_hard, {"beta": 0.5}, 1.0),
    # 1 − 0.6224593 + 0.2689414
    (apo_zero, {"beta": 0.5}, 0.6464821),
    # 0.6224593 + 1 − 0.8175745
    (apo_down, {"beta": 0.5}, 0.8048848),
    # z_r = max(0, −1) = 0, z_c = ½: ½(1 − σ(½)) + ½(1 − σ(½ + 1)) = ½(0.3775407 + 0.1824255)
    (kto_pair, {"beta": 0.5}, 0.2799831),
    # ½·2·0.3775407 + ½·3·0.1824255
    (kto_pair, {"beta": 0.5, "desirable_weight": 2.0, "undesirable_weight": 3.0}, 0.6511790),
]


@pytest.mark.parametrize(("loss", "options", "expected"), GOLDEN)
def test_value_derived_by_hand(
    pair: PairLogps, loss: Callable[..., torch.Tensor], options: dict[str, float], expected: float
) -> None:
    assert loss(pair, **options).tolist() == pytest.approx([expected], abs=2e-7)


def test_no_gradient_flows_through_a_shift(random_pairs: Callable[..., PairLogps]) -> None:
    pairs = random_pairs(n=3)  # with one pair the share of the shift would cancel
    assert pairs.ref_chosen is not None
    assert pairs.ref_rejected is not None
    bco_pair(pairs, beta=0.5).sum().backward()
    chosen = 0.5 * (pairs.chosen - pairs.ref_chosen).detach()
    rejected = 0.5 * (pairs.rejected - pairs.ref_rejected).detach()
    delta = torch.cat([chosen, rejected]).mean()
    # d/dΔc of −log σ(βΔc − δ) and d/dΔr of −log σ(δ − βΔr), δ held fast
    torch.testing.assert_close(pairs.chosen.grad, -0.5 * torch.sigmoid(delta - chosen))
    torch.testing.assert_close(pairs.rejected.grad, 0.5 * torch.sigmoid(rejected - delta))


def test_kto_pair_couples_the_halves() -> None:
    # Two pairs, β = 1: Δc = (3, 1), Δr = (2, 0), so z_c = 2 and z_r = 1.
    zero, one = torch.zeros(2), torch.ones(2)
    pairs = PairLogps(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0]), one, one, zero, zero)
    # pair 1: ½[σ(1 − 3) + σ(2 − 2)], pair 2: ½[σ(1 − 1) + σ(0 − 2)], σ(−2) = 0.1192029
    assert kto_pair(pairs, beta=1.0).tolist() == pytest.approx([0.3096015, 0.3096015], abs=2e-7)


def test_running_mean_is_the_mean_of_everything_seen() -> None:
    rewards = torch.randn(17, generator=torch.Generator().manual_seed(0))
    state = RunningMean()
    for part in (rewards[:3], rewards[3:3], rewards[3:10], rewards[10:]):
        state = state.updated(part)
    assert state.count == 17
    assert state.mean == pytest.approx(rewards.double().mean().item(), rel=1e-12)
