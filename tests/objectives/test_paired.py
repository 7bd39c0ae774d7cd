from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from palate.objectives import PAIRED, PairLogps
from palate.objectives.paired import (
    accuracy,
    aot,
    aot_unpaired,
    discopop,
    dpop,
    exo_pair,
    hinge,
    implicit_rewards,
    ipo,
    log_ratios,
    r_dpo,
    robust,
    sigmoid,
    sigmoid_norm,
)

# log σ(1.5) = −ln(1 + e^−1.5) = −0.2014133, log σ(−1.5) = −1.7014133, σ(1.5) = 0.8175745: βΔ = 1.5 at β = ½.
GOLDEN = [
    (sigmoid, {"beta": 0.5}, 0.2014133),
    # 0.9·0.2014133 + 0.1·1.7014133
    (sigmoid, {"beta": 0.5, "label_smoothing": 0.1}, 0.3514133),
    # (0.9·0.2014133 − 0.1·1.7014133) / 0.8
    (robust, {"beta": 0.5, "label_smoothing": 0.1}, 0.0139133),
    # 1 − 0.2·3, and 1 − 0.5·3 is below 0
    (hinge, {"beta": 0.2}, 0.4),
    (hinge, {"beta": 0.5}, 0.0),
    # 1/(2β) = 4; the per-token δ is ½ − (−½) = 1, the summed one 3
    (ipo, {"beta": 0.125}, 9.0),
    (ipo, {"beta": 0.125, "logps": "sum"}, 1.0),
    # δ = 1, so β = 1.5 gives the argument 1.5 again
    (sigmoid_norm, {"beta": 1.5}, 0.2014133),
    (sigmoid_norm, {"beta": 1.5, "label_smoothing": 0.1}, 0.3514133),
    # 0.8175745·(−0.2014133 − ln 0.9) + 0.1824255·(−1.7014133 − ln 0.1) = −0.0785303 + 0.1096691
    (exo_pair, {"beta": 0.5, "label_smoothing": 0.1}, 0.0311388),
    # m = σ(3) = 0.9525741: 0.9525741·e^−1.5 + 0.0474259·0.2014133 = 0.2125481 + 0.0095522
    (discopop, {"beta": 0.5, "tau": 0.5}, 0.2221003),
    # chosen is above the reference: no penalty
    (dpop, {"beta": 0.5, "penalty": 2.0}, 0.2014133),
    # 1.5 + ¼·(2 − 4) = 1: −log σ(1)
    (r_dpo, {"beta": 0.5, "alpha": 0.25}, 0.3132617),
]

# Losses of the difference Δ alone.
SYMMETRIC = [
    (sigmoid, {"beta": 0.3, "label_smoothing": 0.1}),
    (robust, {"beta": 0.3, "label_smoothing": 0.1}),
    (hinge, {"beta": 0.3}),
    (ipo, {"beta": 0.3}),
    (ipo, {"beta": 0.3, "logps": "sum"}),
    (sigmoid_norm, {"beta": 5.0}),
    (exo_pair, {"beta": 0.3, "label_smoothing": 0.1}),
    (discopop, {"beta": 0.3}),
]

Loss = Callable[..., torch.Tensor]


def swapped(pairs: PairLogps) -> PairLogps:
    return PairLogps(
        chosen=pairs.rejected,
        rejected=pairs.chosen,
        chosen_tokens=pairs.rejected_tokens,
        rejected_tokens=pairs.chosen_tokens,
        ref_chosen=pairs.ref_rejected,
        ref_rejected=pairs.ref_chosen,
    )


@pytest.mark.parametrize(("loss", "options", "expected"), GOLDEN)
def test_value_derived_by_hand(pair: PairLogps, loss: Loss, options: dict[str, float], expected: float) -> None:
    assert loss(pair, **options).tolist() == pytest.approx([expected], abs=2e-7)


def test_dpop_penalises_a_chosen_that_fell() -> None:
    # Δc = −1, Δr = −4, Δ = 3: β(Δ − λ·1) = 0.5·(3 − 2) = 0.5, −log σ(0.5) = 0.4740770
    one = torch.tensor([1.0])
    pairs = PairLogps(-12 * one, -16 * one, one, one, -11 * one, -12 * one)
    assert dpop(pairs, beta=0.5, penalty=2.0).item() == pytest.approx(0.4740770, abs=2e-7)


@pytest.mark.parametrize(("loss", "options"), SYMMETRIC)
def test_swapping_mirrors_the_loss(
    random_pairs: Callable[..., PairLogps], loss: Loss, options: dict[str, float]
) -> None:
    # Δ changes sign when chosen and rejected change places, and when policy and reference do.
    pairs = random_pairs()
    assert pairs.ref_chosen is not None
    assert pairs.ref_rejected is not None
    inverse = replace(
        pairs,
        chosen=pairs.ref_chosen,
        rejected=pairs.ref_rejected,
        ref_chosen=pairs.chosen,
        ref_rejected=pairs.rejected,
    )
    torch.testing.assert_close(loss(swapped(pairs), **options), loss(inverse, **options))


def test_swapping_exchanges_right_and_wrong_labels(random_pairs: Callable[..., PairLogps]) -> None:
    pairs = random_pairs()
    for loss in (sigmoid, sigmoid_norm, exo_pair):
        mirrored = loss(swapped(pairs), beta=0.3, label_smoothing=0.2)
        torch.testing.assert_close(mirrored, loss(pairs, beta=0.3, label_smoothing=0.8))


def test_robust_is_unbiased_under_its_noise(random_pairs: Callable[..., PairLogps]) -> None:
    pairs = random_pairs()
    right = robust(pairs, beta=0.3, label_smoothing=0.2)
    wrong = robust(swapped(pairs), beta=0.3, label_smoothing=0.2)
    torch.testing.assert_close(0.8 * right + 0.2 * wrong, sigmoid(pairs, beta=0.3))


def test_gradient_of_dpo_is_the_closed_form() -> None:
    """∇L = −βσ(−βΔ)[∇log π(y_w) − ∇log π(y_l)] on a softmax policy over 5 tokens and 3 contexts (A13)."""
    torch.manual_seed(0)
    beta, contexts = 0.7, torch.tensor([0, 2, 1])
    chosen, rejected = torch.tensor([1, 4, 0]), torch.tensor([3, 3, 2])
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(3, 5, dtype=torch.float64).log_softmax(-1)

    def log_prob(table: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return table.log_softmax(-1)[contexts, tokens].sum()

    a, b = log_prob(logits, chosen), log_prob(logits, rejected)
    (grad_a,) = torch.autograd.grad(a, logits, retain_graph=True)
    (grad_b,) = torch.autograd.grad(b, logits, retain_graph=True)
    count = torch.tensor([3])
    pairs = PairLogps(
        a[None], b[None], count, count, log_prob(reference, chosen)[None], log_prob(reference, rejected)[None]
    )
    (gradient,) = torch.autograd.grad(sigmoid(pairs, beta=beta).sum(), logits)

    delta_chosen, delta_rejected = log_ratios(pairs)
    delta = (delta_chosen - delta_rejected).item()
    closed_form = -beta / (1.0 + math.exp(beta * delta)) * (grad_a - grad_b)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, closed_form, rtol=1e-12, atol=1e-14)


# What each loss wants of log π(chosen) and log π(rejected) at the start: the sign of its gradient there.
WANTS = dict.fromkeys(PAIRED, (-1, +1)) | {
    "apo_down": (0, +1),  # down by ¼β and up by ¼β: chosen starts where the two meet
    # Its bump at 0 (m′ = 1/(4τ) outweighs the falling exponential) slopes the other way: a known trait of the formula.
    "discopop": (+1, -1),
}
OPTIONS: dict[str, dict[str, object]] = {
    "orpo": {},
    "multi_soft": {"beta": 0.1, "weights": (0.5, 0.3, 0.2)},
    "multi_margin": {"beta": 0.1, "weights": (0.5, 0.3, 0.2), "dimension": 0},
}


def at_start(pairs: PairLogps) -> PairLogps:
    """The same pairs with the policy equal to the reference, chosen better in every dimension."""
    assert pairs.ref_chosen is not None
    assert pairs.ref_rejected is not None
    assert pairs.chosen_scores is not None
    return replace(
        pairs,
        chosen=pairs.ref_chosen.clone().requires_grad_(),
        rejected=pairs.ref_rejected.clone().requires_grad_(),
        chosen_scores=torch.full_like(pairs.chosen_scores, 5.0),
        rejected_scores=torch.full_like(pairs.chosen_scores, 2.0),
    )


@pytest.mark.parametrize("name", PAIRED)
def test_gradient_raises_chosen_and_lowers_rejected(name: str, random_pairs: Callable[..., PairLogps]) -> None:
    pairs = at_start(random_pairs())
    PAIRED[name](pairs, **OPTIONS.get(name, {"beta": 0.1})).sum().backward()
    assert pairs.chosen.grad is not None
    assert pairs.rejected.grad is not None
    up, down = WANTS[name]
    assert torch.equal(pairs.chosen.grad.round(decimals=7).sign(), torch.full((8,), float(up)))
    assert torch.equal(pairs.rejected.grad.round(decimals=7).sign(), torch.full((8,), float(down)))


@pytest.mark.parametrize("name", PAIRED)
def test_finite_at_the_ends_of_the_scale(name: str, extreme_pairs: PairLogps) -> None:
    loss = PAIRED[name](extreme_pairs, **OPTIONS.get(name, {"beta": 0.1}))
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    assert extreme_pairs.chosen.grad is not None
    assert extreme_pairs.rejected.grad is not None
    assert torch.isfinite(extreme_pairs.chosen.grad).all()
    assert torch.isfinite(extreme_pairs.rejected.grad).all()


@pytest.mark.parametrize("name", PAIRED)
def test_order_of_pairs_is_irrelevant(name: str, random_pairs: Callable[..., PairLogps]) -> None:
    pairs = random_pairs(n=9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    fields = ("chosen", "rejected", "chosen_tokens", "rejected_tokens", "ref_chosen", "ref_rejected")
    scores = ("chosen_scores", "rejected_scores")
    shuffled = PairLogps(**{field: getattr(pairs, field)[order] for field in (*fields, *scores)})
    options = OPTIONS.get(name, {"beta": 0.1})
    torch.testing.assert_close(PAIRED[name](shuffled, **options), PAIRED[name](pairs, **options)[order])


def test_rewards_are_in_the_units_of_the_loss(pair: PairLogps) -> None:
    chosen, rejected = implicit_rewards(pair, beta=0.5)
    assert (chosen.item(), rejected.item()) == (0.5, -1.0)
    chosen, rejected = implicit_rewards(pair, beta=0.5, average=True)
    assert (chosen.item(), rejected.item()) == (0.25, -0.25)
    chosen, rejected = implicit_rewards(pair, beta=0.5, average=True, reference_free=True)
    assert (chosen.item(), rejected.item()) == (-2.5, -1.75)


def test_rewards_carry_no_gradient(random_pairs: Callable[..., PairLogps]) -> None:
    assert not any(reward.requires_grad for reward in implicit_rewards(random_pairs(), beta=0.1))


def test_a_missing_reference_is_said(pair: PairLogps) -> None:
    without = replace(pair, ref_chosen=None, ref_rejected=None)
    for call in (lambda: sigmoid(without, beta=0.1), lambda: implicit_rewards(without, beta=0.1)):
        with pytest.raises(ValueError, match="no reference log-probabilities"):
            call()


def test_accuracy_counts_ties_half() -> None:
    chosen, rejected = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([0.0, 0.0, 0.0])
    assert accuracy(chosen, rejected).tolist() == [1.0, 0.5, 0.0]


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
