from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from palate.objectives import PairLogps
from palate.objectives.distribution import aot, aot_unpaired
from palate.objectives.paired import sigmoid


@pytest.fixture
def three() -> PairLogps:
    """a − b = (4, −1, 2), a0 − b0 = (0, 3, 1); Δc = (1, −2, 3), Δr = (−3, 2, 2)."""
    one = torch.ones(3)
    return PairLogps(
        chosen=torch.tensor([-9.0, -12.0, -7.0]),
        rejected=torch.tensor([-13.0, -11.0, -9.0]),
        chosen_tokens=one,
        rejected_tokens=one,
        ref_chosen=torch.tensor([-10.0, -10.0, -10.0]),
        ref_rejected=torch.tensor([-10.0, -13.0, -11.0]),
    )


# −log σ(x): 0.3132617 at 1, 0.4740770 at ½, 0.9740770 at −½, 0.1269280 at 2
def test_aot_compares_margins_rank_by_rank(three: PairLogps) -> None:
    # ranks of a − b: 3rd, 1st, 2nd; sorted a0 − b0 = (0, 1, 3): x = (4 − 3, −1 − 0, 2 − 1) = (1, −1, 1)
    assert aot(three, beta=1.0).tolist() == pytest.approx([0.3132617, 1.3132617, 0.3132617], abs=2e-7)
    # ε = 0.1 mixes in −log σ(−x)
    expected = [0.4132617, 1.2132617, 0.4132617]
    assert aot(three, beta=1.0, label_smoothing=0.1).tolist() == pytest.approx(expected, abs=2e-7)


def test_aot_unpaired_compares_log_ratios_rank_by_rank(three: PairLogps) -> None:
    # a − a0 = (1, −2, 3) of ranks 2, 1, 3; b − b0 = (−3, 2, 2): x = (1 − 2, −2 + 3, 3 − 2) = (−1, 1, 1)
    assert aot_unpaired(three, beta=1.0).tolist() == pytest.approx([1.3132617, 0.3132617, 0.3132617], abs=2e-7)


def test_one_pair_alone_is_dpo(random_pairs: Callable[..., PairLogps]) -> None:
    pairs = random_pairs(n=1)
    for loss in (aot, aot_unpaired):
        torch.testing.assert_close(loss(pairs, beta=0.3), sigmoid(pairs, beta=0.3))


def test_equal_margins_share_the_quantiles_in_any_order() -> None:
    # At step 0 with margins that tie: every x is 0 whichever way the ties fall.
    margins = torch.tensor([2.0, 2.0, -1.0, 2.0])
    zero, one = torch.zeros(4), torch.ones(4)
    pairs = PairLogps(margins, zero, one, one, margins.clone(), zero)
    assert aot(pairs, beta=0.1).tolist() == pytest.approx([0.6931472] * 4, abs=2e-7)
