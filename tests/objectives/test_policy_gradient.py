from __future__ import annotations

import math

import pytest
import torch

from palate.objectives.kl import k3
from palate.objectives.policy_gradient import (
    adapted_kl_coefficient,
    clipped_policy_loss,
    clipped_value_loss,
    generalised_advantages,
    grpo_advantages,
    rloo_advantages,
    shaped_rewards,
)

MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_advantages_derived_by_hand() -> None:
    # γ = ½, λ = ½. Row 1: δ3 = 1 − 2 = −1, δ2 = 0 + ½·2 − 1 = 0, δ1 = 0 + ½·1 − 0 = ½;
    # A3 = −1, A2 = 0 + ¼·(−1), A1 = ½ + ¼·(−¼). Row 2 ends at its second token: A2 = 3 − 1, A1 = 1 + ½·1 − 2 + ¼·2.
    rewards = torch.tensor([[0.0, 0.0, 1.0], [1.0, 3.0, 50.0]])
    values = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 50.0]])
    advantages, returns = generalised_advantages(rewards, values, MASK, gamma=0.5, lam=0.5)
    torch.testing.assert_close(advantages, torch.tensor([[0.4375, -0.25, -1.0], [0.0, 2.0, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[0.4375, 0.75, 1.0], [2.0, 3.0, 0.0]]))


def test_advantages_ignore_the_side_of_the_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 1, 4, generator=generator)
    mask = torch.ones(1, 4, dtype=torch.bool)
    plain, _ = generalised_advantages(rewards, values, mask)
    pad = torch.full((1, 2), 9.0)
    hidden = torch.zeros(1, 2, dtype=torch.bool)
    for order in (slice(None), slice(None, None, -1)):
        parts = [(pad, pad, hidden), (rewards, values, mask)][order]
        r, v, m = (torch.cat(column, dim=1) for column in zip(*parts))
        torch.testing.assert_close(generalised_advantages(r, v, m)[0][m], plain[0])


def test_lambda_one_is_the_return_less_the_value() -> None:
    rewards, values = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[5.0, 6.0, 7.0]])
    advantages, returns = generalised_advantages(rewards, values, MASK[:1], gamma=1.0, lam=1.0)
    assert returns.tolist() == [[7.0, 6.0, 4.0]]
    assert advantages.tolist() == [[2.0, 0.0, -3.0]]


def test_the_score_comes_at_the_last_token() -> None:
    kl = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    rewards = shaped_rewards(torch.tensor([10.0, 20.0]), kl, MASK, kl_coef=0.1)
    torch.testing.assert_close(rewards, torch.tensor([[-0.1, -0.2, 9.7], [-0.4, 19.5, 0.0]]))


def test_group_advantages_derived_by_hand() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    # each less the mean of the two others: 1 − 4, 2 − 3.5, 6 − 1.5
    assert rloo_advantages(rewards).tolist() == [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]
    # mean 3, sample deviation √((4 + 1 + 9)/2) = √7
    expected = [value / (math.sqrt(7.0) + 1e-4) for value in (-2.0, -1.0, 3.0)]
    assert grpo_advantages(rewards)[0].tolist() == pytest.approx(expected)
    assert grpo_advantages(rewards)[1].tolist() == [0.0, 0.0, 0.0]
    assert grpo_advantages(rewards, scale="none")[0].tolist() == [-2.0, -1.0, 3.0]


@pytest.mark.parametrize("advantages", [rloo_advantages, grpo_advantages])
def test_a_group_of_one_is_refused(advantages: object) -> None:
    assert callable(advantages)
    with pytest.raises(ValueError, match="at least 2"):
        advantages(torch.ones(3, 1))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.5, 2.0, -2.4, 0.0),  # clipped at 1.2
        (0.5, 2.0, -1.0, -1.0),  # below the range but in the wrong direction: not clipped
        (0.5, -2.0, 1.6, 0.0),  # clipped at 0.8
        (1.5, -2.0, 3.0, 3.0),
    ],
)
def test_policy_clipping(ratio: float, advantage: float, loss: float, slope: float) -> None:
    logps = torch.tensor([math.log(ratio)], requires_grad=True)
    value = clipped_policy_loss(logps, torch.zeros(1), torch.tensor([advantage]))
    value.sum().backward()
    assert value.item() == pytest.approx(loss)
    assert logps.grad is not None
    assert logps.grad.item() == pytest.approx(slope)


def test_the_upper_clip_can_be_higher() -> None:
    value = clipped_policy_loss(torch.tensor([math.log(1.5)]), torch.zeros(1), torch.ones(1), clip_high=0.28)
    assert value.item() == pytest.approx(-1.28)


def test_value_clipping() -> None:
    # V = 1, old 0: clipped to 0.2. Return 2: max(1, 3.24)/2; return 0: max(1, 0.04)/2.
    loss = clipped_value_loss(torch.ones(2), torch.zeros(2), torch.tensor([2.0, 0.0]), clip=0.2)
    assert loss.tolist() == pytest.approx([1.62, 0.5])


def test_online_losses_are_finite_far_from_the_reference() -> None:
    logps = torch.tensor([0.0, -1e4], requires_grad=True)
    other = torch.tensor([-1e4, 0.0])
    total = k3(logps - other).sum() + clipped_policy_loss(logps, other, torch.tensor([-1.0, 1.0])).sum()
    total.backward()
    assert torch.isfinite(total)
    assert logps.grad is not None
    assert torch.isfinite(logps.grad).all()


def test_kl_controller() -> None:
    # error 7/6 − 1 = ⅙; clipped to ±0.2; on target nothing changes
    step = {"target": 6.0, "horizon": 100.0, "rows": 10}
    assert adapted_kl_coefficient(0.2, 7.0, **step) == pytest.approx(0.2 * (1 + (1 / 6) * 0.1))
    assert adapted_kl_coefficient(0.2, 60.0, **step) == pytest.approx(0.204)
    assert adapted_kl_coefficient(0.2, 0.0, **step) == pytest.approx(0.196)
    assert adapted_kl_coefficient(0.2, 6.0, **step) == 0.2
