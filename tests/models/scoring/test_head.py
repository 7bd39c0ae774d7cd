"""Invariance 10: chunked = dense log-probabilities, forward and backward; and log Σ p², which WPO reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palate.models.probe.probe import probe
from palate.models.scoring import head
from palate.models.scoring.head import dense_logps, head_logps
from palate.text.batch import pack
from tiny import random_groups, tiny_model


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_chunked_equals_dense(
    monkeypatch: pytest.MonkeyPatch, softcap: float | None, scale: float, bias: bool, rows: int
) -> None:
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", 3 * 50)
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


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_square_sums_are_those_of_the_models_own_logits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", 3 * 199)  # several chunks
    model: Any = tiny_model(kind)
    assert probe(model).packed
    batch = pack(random_groups(1, 1, seed=2))
    plain = model(**batch.model_inputs())
    asked = model(**batch.model_inputs(), square_sums=True)
    with torch.no_grad():
        logits = tiny_model(kind)(input_ids=batch.input_ids, use_cache=False).logits[0, batch.target_index]
    expected = logits.float().softmax(-1).square().sum(-1).log()
    assert plain.log_square_sums is None
    assert not asked.log_square_sums.requires_grad
    torch.testing.assert_close(asked.log_square_sums, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(asked.logps, plain.logps)
