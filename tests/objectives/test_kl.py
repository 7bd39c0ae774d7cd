"""Estimates of the KL against the KL itself."""

from __future__ import annotations

import pytest
import torch

from palate.objectives.kl import full_vocabulary, k2, k3, kto_estimate


def test_estimators_of_the_kl() -> None:
    """k1 and k3 have the KL as their mean under the policy; the mean gradient of k2 is the KL's."""
    logits = torch.tensor([0.3, -1.0, 0.8, 0.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.1, 0.2, -0.4, 0.5], dtype=torch.float64).log_softmax(-1)
    policy = logits.log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    p = policy.detach().exp()
    assert exact.item() > 0.1
    torch.testing.assert_close((p * (policy - reference)).sum(), exact)
    torch.testing.assert_close(full_vocabulary(policy.detach(), reference), exact)
    torch.testing.assert_close((p * k3(policy - reference)).sum(), exact)
    assert (k3(policy - reference) >= 0).all()
    (slope,) = torch.autograd.grad(exact, logits, retain_graph=True)
    (estimated,) = torch.autograd.grad((p * k2(policy - reference)).sum(), logits)
    torch.testing.assert_close(estimated, slope)


def test_a_masked_token_adds_nothing() -> None:
    masked = torch.tensor([[0.0, -torch.inf], [0.5, 0.5]]).log_softmax(-1)
    assert full_vocabulary(masked, masked).tolist() == [0.0, 0.0]
    assert full_vocabulary(masked[:1], masked[1:]).item() == pytest.approx(0.6931472)  # log 2


def test_the_mean_comes_before_the_clamp() -> None:
    assert kto_estimate(torch.tensor([3.0, -1.0])).item() == 1.0  # not mean(3, 0)
    assert kto_estimate(torch.tensor([-2.0, -1.0])).item() == 0.0
