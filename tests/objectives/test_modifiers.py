from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from palate.objectives import (
    Modifiers,
    PairLogps,
    RankedLogps,
    Term,
    UnpairedLogps,
    paired_loss,
    ranked_loss,
    unpaired_loss,
)
from palate.objectives.kl import k2
from palate.objectives.modifiers import (
    diverged,
    length_discount,
    sum_by_completion,
    transform_log_ratio,
    wpo_weights,
)
from palate.objectives.paired import hinge, ipo, log_ratios, sigmoid
from palate.objectives.ranked import plackett_luce
from palate.objectives.separate import bco_pair
from palate.objectives.unpaired import apo_zero_unpaired

DPO = Term(sigmoid, {"beta": 0.5})


@pytest.mark.parametrize(
    ("divergence", "alpha", "expected"),
    [
        ("reverse_kl", 0.5, math.log(2.0)),
        ("forward_kl", 0.5, 0.5),  # 1 − ½
        ("js", 0.5, math.log(4 / 3)),  # log(2·2/(1 + 2))
        ("alpha", 0.5, 2.0 - math.sqrt(2.0)),  # (2^−½ − 1)/(−½)
        ("alpha", 2.0, 1.0),  # 2 − 1
        ("alpha", 0.0, 0.5),  # forward_kl
        ("alpha", 1.0, math.log(2.0)),  # reverse_kl
    ],
)
def test_divergences_at_a_ratio_of_two(divergence: str, alpha: float, expected: float) -> None:
    value = transform_log_ratio(torch.tensor([math.log(2.0)]), divergence, alpha=alpha)  # type: ignore[arg-type]
    assert value.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "js", "alpha"])
def test_divergences_rise_from_zero(divergence: str) -> None:
    ratio = torch.linspace(-20.0, 20.0, 81)
    value = transform_log_ratio(ratio, divergence)  # type: ignore[arg-type]
    assert value[40].item() == pytest.approx(0.0, abs=1e-7)
    assert (value.diff() >= 0).all()
    assert (value.diff()[20:60] > 0).all()


@pytest.mark.parametrize("loss", [sigmoid, hinge, ipo])
@pytest.mark.parametrize("divergence", ["forward_kl", "js", "alpha"])
def test_divergences_are_finite_at_the_ends_of_the_scale(
    divergence: str, loss: Callable[..., torch.Tensor], extreme_pairs: PairLogps
) -> None:
    modifiers = Modifiers(f_divergence=divergence)  # type: ignore[arg-type]
    value = paired_loss(extreme_pairs, [Term(loss, {"beta": 0.1})], modifiers)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert extreme_pairs.chosen.grad is not None
    assert torch.isfinite(extreme_pairs.chosen.grad).all()


def test_length_discount_weighs_the_tail() -> None:
    # completions of 2, 4, 3 and 1 tokens, in pairs: the tail of the second is 2 tokens, of the third 2
    tokens, partner = torch.tensor([2, 4, 3, 1]), torch.tensor([4, 2, 1, 3])
    owner = torch.repeat_interleave(torch.arange(4), tokens)
    weights = length_discount(owner, tokens, partner, alpha=0.25)
    assert weights.tolist() == [1, 1, 1, 1, 0.25, 0.25, 1, 0.25, 0.25, 1]
    logps = -torch.arange(1.0, 11.0)
    assert sum_by_completion(logps * weights, owner, 4).tolist() == [-3.0, -9.75, -11.25, -10.0]


def test_length_discount_of_one_and_of_zero() -> None:
    tokens, partner = torch.tensor([1, 3]), torch.tensor([3, 1])
    owner = torch.tensor([0, 1, 1, 1])
    assert length_discount(owner, tokens, partner, alpha=1.0).tolist() == [1.0] * 4
    assert length_discount(owner, tokens, partner, alpha=0.0).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_wpo_weights_derived_by_hand() -> None:
    # p = (½, ¼) against Σp² = (½, ½): exp(mean(0, ln ½)) = 1/√2; a second completion of one token: ¼ / ½
    token_logps = torch.tensor([0.5, 0.25, 0.25]).log().requires_grad_()
    square_sums = torch.tensor([0.5, 0.5, 0.5]).log()
    weights = wpo_weights(token_logps, square_sums, torch.tensor([0, 0, 1]), torch.tensor([2, 1]))
    assert weights.tolist() == pytest.approx([math.sqrt(0.5), 0.5])
    assert not weights.requires_grad


def test_sft_term_is_the_token_mean_of_chosen(pair: PairLogps) -> None:
    # 0.2014133 + 0.3·5
    assert paired_loss(pair, [DPO], Modifiers(sft=0.3)).item() == pytest.approx(1.7014133, abs=1e-6)


def test_kl_term(pair: PairLogps) -> None:
    # mean of ½·1² and ½·(−2)² is 1.25
    assert paired_loss(pair, [DPO], Modifiers(kl=0.1)).item() == pytest.approx(0.3264133, abs=1e-6)


def test_kl_term_has_the_gradient_of_the_kl() -> None:
    logits = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.1, 0.3, 0.0], dtype=torch.float64).log_softmax(-1)
    policy = logits.log_softmax(-1)
    (exact,) = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits, retain_graph=True)
    estimate = (policy.detach().exp() * k2(policy - reference)).sum()
    torch.testing.assert_close(torch.autograd.grad(estimate, logits)[0], exact)


def test_bco_is_mixed_in(pair: PairLogps) -> None:
    # (0.2014133 + 3·0.7737420)/4 with bco_pair's own shift, (0.2014133 + 3·0.8278684)/4 with δ = ¼
    assert paired_loss(pair, [DPO], Modifiers(bco=3.0)).item() == pytest.approx(0.6306598, abs=1e-6)
    assert paired_loss(pair, [DPO], Modifiers(bco=3.0), delta=0.25).item() == pytest.approx(0.6712546, abs=1e-6)


def test_weights_scale_preference_and_not_the_sft_term(pair: PairLogps) -> None:
    modifiers = Modifiers(sft=0.3, weighting=True)
    loss = paired_loss(pair, [DPO], modifiers, weights=torch.tensor([0.5]))
    assert loss.item() == pytest.approx(0.5 * 0.2014133 + 1.5, abs=1e-6)
    with pytest.raises(ValueError, match="no weights were given"):
        paired_loss(pair, [DPO], modifiers)


def test_a_mixture_adds_weighted_losses(random_pairs: Callable[..., PairLogps]) -> None:
    pairs = random_pairs()
    terms = [Term(sigmoid, {"beta": 0.1}, 0.8), Term(bco_pair, {"beta": 0.1}, 0.2)]
    expected = 0.8 * sigmoid(pairs, beta=0.1) + 0.2 * bco_pair(pairs, beta=0.1)
    torch.testing.assert_close(paired_loss(pairs, terms), expected)


def test_objectives_read_discounted_pairs_and_the_added_terms_plain_ones(pair: PairLogps) -> None:
    discounted = replace(pair, rejected=torch.tensor([-12.0]), ref_rejected=torch.tensor([-11.0]))
    # Δ = 1 − (−1) = 2: −log σ(1) = 0.3132617; SFT 0.3·5; KL as before
    loss = paired_loss(pair, [DPO], Modifiers(sft=0.3, kl=0.1), discounted=discounted)
    assert loss.item() == pytest.approx(0.3132617 + 1.5 + 0.125, abs=1e-6)


def test_rewards_come_from_the_transformed_ratios(pair: PairLogps) -> None:
    chosen, rejected = log_ratios(diverged(pair, Modifiers(f_divergence="forward_kl")))
    assert chosen.item() == pytest.approx(1 - math.exp(-1.0))
    assert rejected.item() == pytest.approx(1 - math.exp(2.0))


def test_modifiers_of_rankings() -> None:
    # Two rankings against a reference of zeros; means −1 and −2 of the best over 2 tokens.
    rows = RankedLogps(
        logps=torch.tensor([[-2.0, -4.0, 0.0], [-4.0, -1.0, -3.0]]),
        tokens=torch.full((2, 3), 2),
        present=torch.tensor([[True, True, False], [True, True, True]]),
        ref_logps=torch.zeros(2, 3),
    )
    plain = plackett_luce(rows, beta=0.5)
    loss = ranked_loss(rows, Term(plackett_luce, {"beta": 0.5}), Modifiers(sft=0.1, kl=0.01))
    # ½·mean(4, 16) = 5 and ½·mean(16, 1, 9) = 13/3
    torch.testing.assert_close(loss - plain, torch.tensor([0.1 + 0.05, 0.2 + 0.13 / 3]))


def test_modifiers_of_single_answers() -> None:
    rows = UnpairedLogps(
        torch.tensor([-8.0, -13.0]), torch.tensor([-10.0, -12.0]), torch.tensor([2, 4]), torch.tensor([True, False])
    )
    term = Term(apo_zero_unpaired, {"beta": 0.5})
    added = unpaired_loss(rows, term, Modifiers(sft=0.1, kl=0.01)) - apo_zero_unpaired(rows, beta=0.5)
    # the SFT term is 0.1·4 for the wanted row only; ½·2² and ½·1²
    assert added.tolist() == pytest.approx([0.42, 0.005], abs=1e-6)
