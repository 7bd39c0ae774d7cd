"""Invariance 10: chunked = dense log-probabilities, forward and backward."""

from __future__ import annotations

import pytest
import torch

from palate.models import score
from palate.models.score import TokenLogps, dense_logps, head_logps, head_of, install, per_completion
from palate.text.batch import pack
from tiny import random_groups, tiny_model


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_chunked_equals_dense(
    monkeypatch: pytest.MonkeyPatch, softcap: float | None, scale: float, bias: bool, rows: int
) -> None:
    monkeypatch.setattr(score, "CHUNK_ELEMENTS", 3 * 50)
    torch.manual_seed(0)
    hidden = torch.randn(rows, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 8, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(50, dtype=torch.float64, requires_grad=True) if bias else None
    targets = torch.randint(50, (rows,))
    upstream = torch.randn(rows)
    inputs = [t for t in (hidden, weight, offset) if t is not None]

    chunked = head_logps(hidden, weight, offset, targets, scale=scale, softcap=softcap)
    chunked_gradients = torch.autograd.grad((chunked * upstream).sum(), inputs)
    logits = torch.nn.functional.linear(hidden, weight, offset) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    dense = dense_logps(logits, targets)
    dense_gradients = torch.autograd.grad((dense * upstream).sum(), inputs)

    assert chunked.dtype == torch.float32
    torch.testing.assert_close(chunked, dense, atol=1e-5, rtol=1e-5)
    for got, want in zip(chunked_gradients, dense_gradients, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_frozen_parts_get_no_gradient() -> None:
    hidden = torch.randn(4, 8, requires_grad=True)
    weight = torch.randn(11, 8)
    head_logps(hidden, weight, None, torch.tensor([1, 2, 3, 4])).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_extreme_logits_stay_finite() -> None:
    hidden = torch.tensor([[300.0, -300.0]], requires_grad=True)
    weight = torch.tensor([[300.0, 0.0], [0.0, 300.0], [0.0, 0.0]])
    value = head_logps(hidden, weight, None, torch.tensor([1]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def test_without_targets_the_stock_forward_answers() -> None:
    model = tiny_model("llama")
    ids = torch.tensor([[5, 6, 7]])
    before = model(input_ids=ids).logits
    install(model, head_of(model))
    torch.testing.assert_close(model(input_ids=ids).logits, before)


def test_sums_and_means_belong_to_their_completions() -> None:
    groups = random_groups(2, seed=7)
    batch = pack(groups)
    values = torch.arange(len(batch.target_ids), dtype=torch.float32)
    logps = per_completion(TokenLogps(values), batch)
    start = 0
    for number, completion in enumerate(c for group in groups for c in group.completions):
        n = int(completion.trained.sum())
        assert logps.tokens[number] == n
        assert logps.sums[number] == values[start : start + n].sum()
        assert logps.means[number] == values[start : start + n].mean()
        start += n
