"""Losses and gradients equal TRL's own code, which runs here on a stub model; skipped where TRL is not installed."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from palate.objectives import (
    PAIRED,
    Modifiers,
    PairLogps,
    Term,
    UnpairedLogps,
    paired_loss,
)
from palate.objectives.modifiers import length_discount, sum_by_completion, wpo_weights
from palate.objectives.ranked import bradley_terry
from palate.objectives.reference_free import cpo, orpo, simpo
from palate.objectives.unpaired import apo_zero_unpaired, kto

PAIRS, WIDTH = 6, 9


@pytest.fixture(scope="module")
def trl() -> Any:
    """TRL's trainer modules; what they warn of on import is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("trl")
        from trl.experimental.cpo.cpo_trainer import CPOTrainer
        from trl.experimental.orpo.orpo_trainer import ORPOTrainer
        from trl.trainer.dpo_trainer import DPOTrainer
        from trl.trainer.kto_trainer import KTOTrainer
        from trl.trainer.reward_trainer import RewardTrainer
    return SimpleNamespace(dpo=DPOTrainer, kto=KTOTrainer, reward=RewardTrainer, cpo=CPOTrainer, orpo=ORPOTrainer)


class Stub(torch.nn.Module):
    """A model whose forward returns given log-probabilities; all else that TRL logs is zero."""

    is_gradient_checkpointing = False

    def __init__(self, log_probs: torch.Tensor, log_sum_sq_probs: torch.Tensor | None = None) -> None:
        super().__init__()
        zeros = torch.zeros_like(log_probs)
        self.outputs = SimpleNamespace(
            log_probs=log_probs,
            log_sum_sq_probs=zeros if log_sum_sq_probs is None else log_sum_sq_probs,
            entropy=zeros,
            mean_logits=zeros,
            is_top1=zeros.bool(),
        )

    def forward(self, **_: Any) -> SimpleNamespace:
        return self.outputs


def trainer(**settings: Any) -> SimpleNamespace:
    """What TRL's loss reads of `self`."""
    same = lambda value: value  # noqa: E731
    defaults = {
        "accelerator": SimpleNamespace(device=torch.device("cpu"), gather=same, gather_for_metrics=same),
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05, center_rewards_coefficient=None),
        "aux_loss_enabled": False,
        "precompute_ref_logps": False,
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "loss_types": ["sigmoid"],
        "loss_weights": [1.0],
        "beta": 0.3,
        "label_smoothing": 0.0,
        "use_weighting": False,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**{**defaults, **settings})


class Tokens:
    """Token log-probabilities of 6 pairs under policy and reference, ragged; chosen first, then rejected."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.counts = torch.randint(2, WIDTH + 1, (2 * PAIRS,), generator=generator)
        self.mask = torch.arange(WIDTH) < self.counts[:, None]
        self.policy = (-2.0 * torch.rand(2 * PAIRS, WIDTH, generator=generator) * self.mask).requires_grad_()
        self.reference = -2.0 * torch.rand(2 * PAIRS, WIDTH, generator=generator) * self.mask
        self.square_sums = -torch.rand(2 * PAIRS, WIDTH, generator=generator) * self.mask
        self.owner = torch.arange(2 * PAIRS).repeat_interleave(self.counts)

    def pairs(self, *, ld_alpha: float = 1.0) -> PairLogps:
        partner = self.counts.roll(PAIRS)
        weights = length_discount(self.owner, self.counts, partner, alpha=ld_alpha)
        sums = sum_by_completion(self.policy[self.mask] * weights, self.owner, 2 * PAIRS)
        ref_sums = sum_by_completion(self.reference[self.mask] * weights, self.owner, 2 * PAIRS)
        return PairLogps(*sums.split(PAIRS), *self.counts.split(PAIRS), *ref_sums.split(PAIRS))

    def weights(self) -> torch.Tensor:
        flat = (self.policy[self.mask], self.square_sums[self.mask], self.owner, self.counts)
        chosen, rejected = wpo_weights(*flat).split(PAIRS)
        return chosen * rejected

    def trl_mean(self, loss: Callable[..., torch.Tensor], **settings: Any) -> torch.Tensor:
        """TRL's own mean loss over the pairs."""
        first = torch.zeros(2 * PAIRS, 1, dtype=torch.int64)
        inputs = {
            "input_ids": torch.zeros(2 * PAIRS, WIDTH + 1, dtype=torch.int64),
            "completion_mask": torch.cat([first, self.mask.long()], dim=1),
            "attention_mask": torch.ones(2 * PAIRS, WIDTH + 1, dtype=torch.int64),
        }
        model = Stub(self.policy, self.square_sums)
        return loss(trainer(model=model, ref_model=Stub(self.reference), **settings), model, inputs, False)


def assert_same(tokens: Tokens, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal values to 1e-5 and equal gradients to every token."""
    (our_slope,) = torch.autograd.grad(ours, tokens.policy, retain_graph=True)
    (their_slope,) = torch.autograd.grad(theirs, tokens.policy, retain_graph=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert our_slope.abs().max() > 1e-4
    torch.testing.assert_close(our_slope * tokens.mask, their_slope * tokens.mask, rtol=1e-5, atol=1e-6)


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("sigmoid", {}, {}),
    ("hinge", {}, {}),
    ("ipo", {}, {}),
    ("sigmoid_norm", {}, {}),
    ("exo_pair", {"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
    ("robust", {"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
    ("nca_pair", {}, {}),
    ("bco_pair", {"delta": 0.0}, {}),  # TRL has no reward shift
    ("sppo_hard", {}, {}),
    ("aot", {"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
    ("aot_unpaired", {"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
    ("apo_zero", {}, {}),
    ("apo_down", {}, {}),
    ("discopop", {}, {}),
]


@pytest.mark.parametrize(("name", "options", "settings"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dpo_losses(trl: Any, name: str, options: dict[str, Any], settings: dict[str, Any], beta: float) -> None:
    tokens = Tokens()
    ours = PAIRED[name](tokens.pairs(), beta=beta, **options).mean()
    theirs = tokens.trl_mean(trl.dpo._compute_loss, loss_types=[name], beta=beta, **settings)
    assert_same(tokens, ours, theirs)


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo", "sigmoid_norm", "discopop"])
@pytest.mark.parametrize("divergence", ["forward_kl", "js", "alpha"])
def test_f_divergences(trl: Any, name: str, divergence: str) -> None:
    tokens = Tokens()
    modifiers = Modifiers(f_divergence=divergence, f_alpha=0.4)  # type: ignore[arg-type]
    ours = paired_loss(tokens.pairs(), [Term(PAIRED[name], {"beta": 0.3})], modifiers).mean()
    theirs = tokens.trl_mean(
        trl.dpo._compute_loss,
        loss_types=[name],
        f_divergence_type={"js": "js_divergence", "alpha": "alpha_divergence"}.get(divergence, divergence),
        f_alpha_divergence_coef=0.4,
    )
    assert_same(tokens, ours, theirs)


@pytest.mark.parametrize("ld_alpha", [0.0, 0.4])
def test_length_desensitisation(trl: Any, ld_alpha: float) -> None:
    tokens = Tokens()
    ours = PAIRED["sigmoid"](tokens.pairs(ld_alpha=ld_alpha), beta=0.3).mean()
    assert_same(tokens, ours, tokens.trl_mean(trl.dpo._compute_loss, ld_alpha=ld_alpha))


def test_wpo_and_mixtures(trl: Any) -> None:
    tokens = Tokens()
    terms = [Term(PAIRED["sigmoid"], {"beta": 0.3}, 0.8), Term(PAIRED["bco_pair"], {"beta": 0.3, "delta": 0.0}, 0.2)]
    ours = paired_loss(tokens.pairs(), terms, Modifiers(weighting=True), weights=tokens.weights()).mean()
    theirs = tokens.trl_mean(
        trl.dpo._compute_loss, loss_types=["sigmoid", "bco_pair"], loss_weights=[0.8, 0.2], use_weighting=True
    )
    assert_same(tokens, ours, theirs)


def test_reference_free_losses(trl: Any) -> None:
    tokens = Tokens()
    pairs = tokens.pairs()
    means = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
    fake = trainer(alpha=0.0, loss_type="simpo", simpo_gamma=0.7, beta=2.0)
    theirs, _, _ = trl.cpo.cpo_loss(fake, *means)
    assert_same(tokens, simpo(pairs, beta=2.0, gamma=0.7).mean(), theirs.mean())
    theirs, _, _ = trl.cpo.cpo_loss(trainer(alpha=0.0, loss_type="sigmoid"), pairs.chosen, pairs.rejected)
    assert_same(tokens, cpo(pairs, beta=0.3, alpha=0.0).mean(), theirs.mean())
    ratio, *_ = trl.orpo.odds_ratio_loss(trainer(beta=0.4), *means)
    assert_same(tokens, orpo(pairs, weight=0.4).mean(), -means[0].mean() - ratio.mean())


@pytest.mark.parametrize("name", ["kto", "apo_zero_unpaired"])
def test_kto_losses(trl: Any, name: str) -> None:
    tokens = Tokens()
    n = 2 * PAIRS
    label = torch.arange(n) % 3 > 0
    kl_logps, ref_kl_logps = -torch.arange(1.0, n + 1), -torch.arange(1.0, n + 1) - 0.8
    sums, ref_sums = tokens.policy.sum(1), tokens.reference.sum(1)
    rows = UnpairedLogps(sums, ref_sums, tokens.counts, label, kl_logps, ref_kl_logps)
    loss = {"kto": kto, "apo_zero_unpaired": apo_zero_unpaired}[name]
    ours = loss(rows, beta=0.3, desirable_weight=1.3, undesirable_weight=0.6).mean()

    first = torch.zeros(n, 1, dtype=torch.int64)
    inputs = {
        "input_ids": torch.zeros(n, WIDTH + 1, dtype=torch.int64),
        "completion_mask": torch.cat([first, tokens.mask.long()], dim=1),
        "attention_mask": torch.ones(n, WIDTH + 1, dtype=torch.int64),
        "label": label,
        "ref_logps": ref_sums,
        "ref_KL_logps": ref_kl_logps,
    }
    fake = trainer(
        loss_type=name,
        precompute_ref_logps=True,
        calculate_KL=name == "kto",
        desirable_weight=1.3,
        undesirable_weight=0.6,
        model=Stub(tokens.policy),
        _compute_kl_logps=lambda model, batch: kl_logps,
    )
    assert_same(tokens, ours, trl.kto._compute_loss(fake, Stub(tokens.policy), inputs, False))


def test_reward_losses(trl: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    rewards = torch.randn(2 * PAIRS, generator=generator)
    margin = torch.rand(PAIRS, generator=generator)
    model = Stub(rewards)
    model.outputs.logits = rewards[:, None]
    fake = trainer(model=model)
    fake.args.center_rewards_coefficient = 0.01
    inputs = {"attention_mask": torch.ones(2 * PAIRS, 3), "margin": margin}
    theirs = trl.reward.compute_loss(fake, model, inputs)
    ours = bradley_terry(*rewards.split(PAIRS), margin=margin, centring=0.01).mean()
    torch.testing.assert_close(ours, theirs)
