from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from palate.objectives import PairLogps, RankedLogps
from palate.objectives.paired import sigmoid
from palate.objectives.ranked import bradley_terry, plackett_luce, reward_plackett_luce, reward_regression, rrhf


def rankings(*rows: list[float], tokens: int = 2) -> RankedLogps:
    """Log-probabilities by row, best first, against a reference of zeros."""
    flat = torch.tensor([value for row in rows for value in row])
    group_of = torch.tensor([number for number, row in enumerate(rows) for _ in row])
    return RankedLogps.from_flat(flat, torch.full_like(group_of, tokens), group_of, torch.zeros_like(flat))


def test_from_flat_pads_on_the_right() -> None:
    rows = rankings([-1.0, -2.0], [-3.0], [-4.0, -5.0, -6.0])
    assert rows.logps.tolist() == [[-1, -2, 0], [-3, 0, 0], [-4, -5, -6]]
    assert rows.present.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert rows.tokens.tolist() == [[2, 2, 0], [2, 0, 0], [2, 2, 2]]


def test_plackett_luce_derived_by_hand() -> None:
    # βu = (ln 3, ln 2, 0): first ln(6/3), then ln(3/2), then 0: ln 3
    ln2, ln3 = 0.6931472, 1.0986123
    loss = plackett_luce(rankings([2 * ln3, 2 * ln2, 0.0]), beta=0.5)
    assert loss.item() == pytest.approx(ln3, abs=1e-6)


def test_rrhf_derived_by_hand() -> None:
    # s = (−2, −1, −3): only place 2 is above place 1, by 1; −s_best = 2
    assert rrhf(rankings([-4.0, -2.0, -6.0])).item() == pytest.approx(3.0)
    # s = (−3, −2, −1): gaps 1 + 2 + 1
    assert rrhf(rankings([-6.0, -4.0, -2.0])).item() == pytest.approx(7.0)


def test_two_completions_are_dpo() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = -20.0 * torch.rand(2, 6, 2, generator=generator)
    tokens = torch.full((6, 2), 7)
    rows = RankedLogps(policy.clone().requires_grad_(), tokens, torch.ones(6, 2, dtype=torch.bool), reference)
    first, second = policy[:, 0].clone().requires_grad_(), policy[:, 1].clone().requires_grad_()
    pairs = PairLogps(first, second, tokens[:, 0], tokens[:, 1], reference[:, 0], reference[:, 1])
    ranked, paired = plackett_luce(rows, beta=0.3), sigmoid(pairs, beta=0.3)
    torch.testing.assert_close(ranked, paired)
    ranked.sum().backward()
    paired.sum().backward()
    assert rows.logps.grad is not None
    assert first.grad is not None
    assert second.grad is not None
    torch.testing.assert_close(rows.logps.grad, torch.stack([first.grad, second.grad], dim=1))


@pytest.mark.parametrize("loss", [lambda rows: plackett_luce(rows, beta=0.4), rrhf])
def test_rows_of_any_length_do_not_touch_each_other(loss: object) -> None:
    rows = ([-3.0, -5.0], [-1.0, -8.0, -2.0, -4.0], [-2.0, -6.0, -7.0])
    assert callable(loss)
    together = loss(rankings(*rows))
    alone = torch.cat([loss(rankings(row)) for row in rows])
    torch.testing.assert_close(together, alone)


def test_gradient_raises_the_best_and_lowers_the_worst() -> None:
    rows = rankings([0.0, 0.0, 0.0], [0.0, 0.0])
    rows = replace(rows, logps=rows.logps.clone().requires_grad_())
    plackett_luce(rows, beta=1.0).sum().backward()
    assert rows.logps.grad is not None
    # −(1 − ⅓); ⅓ − ½; ⅓ + ½, and the padded place has none
    expected = torch.tensor([[-2 / 3, -1 / 6, 5 / 6], [-0.5, 0.5, 0.0]])
    torch.testing.assert_close(rows.logps.grad, expected)


@pytest.mark.parametrize("extreme", [[-1e4, 0.0, -1e4], [0.0, -1e4, -1e4], [-1e4, -1e4, 0.0]])
def test_finite_at_the_ends_of_the_scale(extreme: list[float]) -> None:
    for loss in (lambda rows: plackett_luce(rows, beta=1.0), rrhf):
        rows = rankings(extreme, [-1e4, 0.0])
        rows = replace(rows, logps=rows.logps.clone().requires_grad_())
        value = loss(rows)
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert rows.logps.grad is not None
        assert torch.isfinite(rows.logps.grad).all()


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
