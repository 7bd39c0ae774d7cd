from __future__ import annotations

import math

import pytest
import torch

from palate.objectives import PairLogps
from palate.objectives.reference_free import cpo, log_odds, orpo, simpo


def test_simpo_derived_by_hand(pair: PairLogps) -> None:
    # 2·(−5 + 3.5) − 1 = −4: −log σ(−4) = 4 + ln(1 + e^−4)
    assert simpo(pair, beta=2.0, gamma=1.0).item() == pytest.approx(4.0181499, abs=1e-6)


def test_cpo_derived_by_hand(pair: PairLogps) -> None:
    # ½·(−10 + 14) = 2: −log σ(2) = 0.1269280; ā = −5
    assert cpo(pair, beta=0.5, alpha=1.0).item() == pytest.approx(5.1269280, abs=1e-6)
    assert cpo(pair, beta=0.5, alpha=0.2).item() == pytest.approx(1.1269280, abs=1e-6)


def test_orpo_derived_by_hand() -> None:
    # Mean probabilities ½ and ⅕: odds 1 and ¼, log σ(ln 4) = ln 0.8 = −0.2231436; −ā = ln 2.
    pairs = PairLogps(
        chosen=torch.tensor([2 * math.log(0.5)]),
        rejected=torch.tensor([3 * math.log(0.2)]),
        chosen_tokens=torch.tensor([2]),
        rejected_tokens=torch.tensor([3]),
    )
    assert orpo(pairs, weight=0.5).item() == pytest.approx(0.6931472 + 0.5 * 0.2231436, abs=2e-7)


@pytest.mark.parametrize("logp", [-1e4, -50.0, -0.7, -0.6931471805599453, -0.69, -0.01, -1e-5])
def test_log_odds_and_its_slope_in_float32(logp: float) -> None:
    value = torch.tensor(logp, requires_grad=True)
    odds = log_odds(value)
    odds.backward()
    exact = float(value.item())  # as float32 holds it
    assert odds.item() == pytest.approx(exact - math.log(-math.expm1(exact)), rel=1e-5, abs=1e-7)
    assert value.grad is not None
    assert value.grad.item() == pytest.approx(-1.0 / math.expm1(exact), rel=1e-4)


def test_log_odds_of_certainty_is_finite() -> None:
    value = torch.zeros(1, requires_grad=True)
    odds = log_odds(value)
    odds.sum().backward()
    assert 13.0 < odds.item() < 14.0
    assert value.grad is not None
    assert torch.isfinite(value.grad).all()
