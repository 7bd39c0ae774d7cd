from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from palate.objectives import PairLogps
from palate.objectives.multi import multi_margin, multi_soft, preference
from palate.objectives.paired import sigmoid

NAN = float("nan")
WEIGHTS = (0.5, 0.3, 0.2)


def scored(pair: PairLogps, chosen: list[float], rejected: list[float]) -> PairLogps:
    return replace(pair, chosen_scores=torch.tensor([chosen]), rejected_scores=torch.tensor([rejected]))


@pytest.mark.parametrize(
    ("chosen", "rejected", "temperature", "expected"),
    [
        ([5, 3, 2], [3, 3, 4], None, 0.65),  # won, tied, lost: 0.5 + ½·0.3 + 0
        ([5, 3, 2], [3, 3, 4], 2.0, 0.5744425),  # σ((0.5·2 + 0 − 0.2·2)/2) = σ(0.3)
        ([5, NAN, 2], [3, 3, 4], None, 5 / 7),  # its 0.3 goes to the others: 0.5/(0.5 + 0.2)
        ([5, NAN, 2], [3, 3, 4], 2.0, 0.6055326),  # σ((1 − 0.4)/0.7/2) = σ(3/7)
        ([NAN, NAN, NAN], [3, 3, 4], None, 1.0),
        ([NAN, 3, NAN], [3, NAN, 4], 2.0, 1.0),
    ],
)
def test_soft_label(chosen: list[float], rejected: list[float], temperature: float | None, expected: float) -> None:
    p = preference(torch.tensor([chosen]), torch.tensor([rejected]), weights=WEIGHTS, temperature=temperature)
    assert p.item() == pytest.approx(expected, abs=2e-7)


def test_soft_loss_derived_by_hand(pair: PairLogps) -> None:
    # βΔ = 1.5, p = 0.65: 0.65·0.2014133 + 0.35·1.7014133
    loss = multi_soft(scored(pair, [5, 3, 2], [3, 3, 4]), beta=0.5, weights=WEIGHTS)
    assert loss.item() == pytest.approx(0.7264133, abs=2e-7)


def test_a_pair_better_in_everything_is_dpo(pair: PairLogps) -> None:
    loss = multi_soft(scored(pair, [5, 5, 5], [1, 1, 1]), beta=0.5, weights=WEIGHTS)
    torch.testing.assert_close(loss, sigmoid(pair, beta=0.5))


def test_margin_form_derived_by_hand(pair: PairLogps) -> None:
    # ordered by dimension 0 (5 > 3): (1/0.5)·[1.5 − 0.3·(4 − 3) − 0.2·(2 − 4)] = 2·1.6: −log σ(3.2)
    loss = multi_margin(scored(pair, [5, 4, 2], [3, 3, 4]), beta=0.5, weights=WEIGHTS, dimension=0)
    assert loss.item() == pytest.approx(0.0399533, abs=2e-7)
    # ordered by dimension 2 (2 < 4), so swapped: (1/0.2)·[−1.5 − 0.5·(3 − 5) − 0.3·(3 − 4)] = 5·(−0.2): −log σ(−1)
    loss = multi_margin(scored(pair, [5, 4, 2], [3, 3, 4]), beta=0.5, weights=WEIGHTS, dimension=2)
    assert loss.item() == pytest.approx(1.3132617, abs=1e-6)


def test_margin_form_ignores_a_missing_other_dimension(pair: PairLogps) -> None:
    # 2·[1.5 − 0 + 0.4] = 3.8: −log σ(3.8)
    loss = multi_margin(scored(pair, [5, NAN, 2], [3, 3, 4]), beta=0.5, weights=WEIGHTS, dimension=0)
    assert loss.item() == pytest.approx(0.0221244, abs=2e-7)


def test_ties_in_the_ordering_dimension_are_out(pair: PairLogps) -> None:
    for chosen in ([5.0, 3.0, 2.0], [5.0, NAN, 2.0]):
        pairs = scored(pair, chosen, [3, 3, 4])
        pairs = replace(pairs, chosen=pairs.chosen.clone().requires_grad_())
        loss = multi_margin(pairs, beta=0.5, weights=WEIGHTS, dimension=1)
        loss.sum().backward()
        assert loss.item() == 0.0
        assert pairs.chosen.grad is not None
        assert pairs.chosen.grad.item() == 0.0


def test_missing_scores_are_said(pair: PairLogps) -> None:
    with pytest.raises(ValueError, match="carry no scores"):
        multi_soft(pair, beta=0.5, weights=WEIGHTS)
