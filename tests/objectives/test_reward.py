from __future__ import annotations

import pytest
import torch

from palate.objectives.reward import bradley_terry, reward_plackett_luce, reward_regression


def test_bradley_terry_derived_by_hand() -> None:
    chosen, rejected = torch.tensor([2.0]), torch.tensor([1.0])
    # −log σ(1); −log σ(1 − ½); the same and 0.01·3²
    assert bradley_terry(chosen, rejected).item() == pytest.approx(0.3132617, abs=2e-7)
    assert bradley_terry(chosen, rejected, margin=torch.tensor([0.5])).item() == pytest.approx(0.4740770, abs=2e-7)
    assert bradley_terry(chosen, rejected, centring=0.01).item() == pytest.approx(0.4032617, abs=2e-7)


def test_two_rewards_are_bradley_terry() -> None:
    rewards = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    present = torch.ones(5, 2, dtype=torch.bool)
    for centring in (0.0, 0.01):
        ranked = reward_plackett_luce(rewards, present, centring=centring)
        torch.testing.assert_close(ranked, bradley_terry(rewards[:, 0], rewards[:, 1], centring=centring))


def test_a_ranking_ignores_what_is_not_there() -> None:
    # ln(6/3) + ln(3/2) of rewards ln 3, ln 2, 0; centring 0.1·(ln 6)²
    rewards = torch.tensor([[1.0986123, 0.6931472, 0.0, 77.0]])
    present = torch.tensor([[True, True, True, False]])
    loss = reward_plackett_luce(rewards, present, centring=0.1)
    assert loss.item() == pytest.approx(1.0986123 + 0.1 * 1.7917595**2, abs=1e-6)


def test_regression_derived_by_hand() -> None:
    # σ(0) = ½ against 0.8; σ(ln 3) = ¾ against 1
    loss = reward_regression(torch.tensor([0.0, 1.0986123]), torch.tensor([0.8, 1.0]))
    assert loss.tolist() == pytest.approx([0.09, 0.0625], abs=1e-7)


def test_gradients_push_apart_and_towards_the_score() -> None:
    chosen, rejected = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    bradley_terry(chosen, rejected).sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert (chosen.grad.item(), rejected.grad.item()) == (-0.5, 0.5)
    reward = torch.zeros(2, requires_grad=True)
    reward_regression(reward, torch.tensor([1.0, 0.0])).sum().backward()
    assert reward.grad is not None
    assert reward.grad.tolist() == pytest.approx([-0.25, 0.25])
