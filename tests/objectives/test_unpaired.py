from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from palate.objectives import UNPAIRED, UnpairedLogps
from palate.objectives.unpaired import apo_zero_unpaired, bco, kl_estimate, kto


@pytest.fixture
def rows() -> UnpairedLogps:
    """A wanted completion with u = 2 and an unwanted one with u = −1; mismatched log-ratios 3 and −1, mean 1."""
    return UnpairedLogps(
        logps=torch.tensor([-8.0, -13.0]),
        ref_logps=torch.tensor([-10.0, -12.0]),
        tokens=torch.tensor([2, 4]),
        desirable=torch.tensor([True, False]),
        kl_logps=torch.tensor([-7.0, -11.0]),
        ref_kl_logps=torch.tensor([-10.0, -10.0]),
    )


# β = ½: rewards 1 and −½, z = ½. σ(−½) = 0.3775407, σ(−1) = 0.2689414.
GOLDEN = [
    # 1 − σ(1 − ½) and 1 − σ(½ + ½)
    (kto, {"beta": 0.5}, [0.3775407, 0.2689414]),
    (kto, {"beta": 0.5, "desirable_weight": 2.0, "undesirable_weight": 3.0}, [0.7550813, 0.8068243]),
    # 1 − σ(1) and σ(−½)
    (apo_zero_unpaired, {"beta": 0.5}, [0.2689414, 0.3775407]),
    # −log σ(1 − ¾) and −log σ(¾ + ½)
    (bco, {"beta": 0.5, "delta": 0.75}, [0.5759394, 0.2519290]),
    # δ = mean(1, −½) = ¼: −log σ(¾) twice
    (bco, {"beta": 0.5}, [0.3868710, 0.3868710]),
]


@pytest.mark.parametrize(("loss", "options", "expected"), GOLDEN)
def test_value_derived_by_hand(
    rows: UnpairedLogps, loss: Callable[..., torch.Tensor], options: dict[str, float], expected: list[float]
) -> None:
    assert loss(rows, **options).tolist() == pytest.approx(expected, abs=2e-7)


def test_the_mean_comes_before_the_clamp(rows: UnpairedLogps) -> None:
    assert kl_estimate(rows).item() == 1.0  # not mean(max(0, 3), max(0, −1)) = 1.5
    assert kl_estimate(replace(rows, kl_logps=torch.tensor([-12.0, -11.0]))).item() == 0.0


def test_a_missing_kl_is_said(rows: UnpairedLogps) -> None:
    with pytest.raises(ValueError, match="mismatched completions"):
        kto(replace(rows, kl_logps=None), beta=0.1)


@pytest.mark.parametrize("name", UNPAIRED)
def test_gradient_raises_wanted_and_lowers_unwanted(name: str, rows: UnpairedLogps) -> None:
    assert rows.kl_logps is not None
    rows = replace(rows, logps=rows.logps.requires_grad_(), kl_logps=rows.kl_logps.requires_grad_())
    UNPAIRED[name](rows, beta=0.1).sum().backward()
    assert rows.logps.grad is not None
    assert rows.logps.grad.sign().tolist() == [-1.0, 1.0]
    assert rows.kl_logps is not None
    assert rows.kl_logps.grad is None  # detached


@pytest.mark.parametrize("name", UNPAIRED)
def test_finite_at_the_ends_of_the_scale(name: str) -> None:
    logps = torch.tensor([0.0, -1e4, 0.0, -1e4], requires_grad=True)
    rows = UnpairedLogps(
        logps=logps,
        ref_logps=torch.tensor([-1e4, 0.0, -1e4, 0.0]),
        tokens=torch.ones(4),
        desirable=torch.tensor([True, True, False, False]),
        kl_logps=torch.tensor([0.0]),
        ref_kl_logps=torch.tensor([-1e4]),
    )
    loss = UNPAIRED[name](rows, beta=1.0)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logps.grad is not None
    assert torch.isfinite(logps.grad).all()
