"""The head that forms its gradient in forward, against the definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from palate.models.cpu import head
from palate.models.cpu.head import plain_head_logps


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kept_bytes", [0, 13 * 50 * 4, 1 << 20])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_equals_the_definition(monkeypatch: pytest.MonkeyPatch, rows: int, kept_bytes: int, bias: bool) -> None:
    monkeypatch.setattr(head, "KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(head, "_ROWS", 6)
    monkeypatch.setattr(head, "_ELEMENTS", 100)
    torch.manual_seed(0)
    hidden = torch.randn(rows, 8, requires_grad=True)
    weight = torch.randn(50, 8, requires_grad=True)
    offset = torch.randn(50, requires_grad=True) if bias else None
    inputs = [t for t in (hidden, weight, offset) if t is not None]
    targets, upstream = torch.randint(50, (rows,)), torch.randn(rows)

    ours = plain_head_logps(hidden, weight, offset, targets, torch.float32)
    want = F.log_softmax(F.linear(hidden, weight, offset), -1).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(ours, want, atol=1e-5, rtol=1e-5)
    for got, expected in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(want, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_inputs_get_no_gradient(frozen: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(5, 8), torch.randn(50, 8)]
    inputs[1 - frozen].requires_grad_()
    plain_head_logps(inputs[0], inputs[1], None, torch.arange(5), torch.float32).sum().backward()
    assert inputs[frozen].grad is None
    assert inputs[1 - frozen].grad is not None


def test_a_target_whose_probability_underflows() -> None:
    hidden, weight = torch.tensor([[1.0], [1.0]], requires_grad=True), torch.tensor([[0.0], [200.0], [199.0]])
    logps = plain_head_logps(hidden, weight, None, torch.tensor([0, 1]), torch.float32)
    want = F.log_softmax(hidden @ weight.T, -1)
    torch.testing.assert_close(logps, torch.stack([want[0, 0], want[1, 1]]))
    assert logps[0] < -199.0


def test_a_confident_token_keeps_its_gradient_in_bf16() -> None:
    # p = 0.9997: 1 − p would round to 0 or 0.004 if p itself were kept in bf16.
    hidden = torch.tensor([[8.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    logps = plain_head_logps(hidden, weight, None, torch.tensor([0]), torch.bfloat16)
    (got,) = torch.autograd.grad(logps.sum(), hidden)
    want = torch.sigmoid(torch.tensor(-8.0))
    torch.testing.assert_close(got[0], torch.stack([want, -want]), rtol=1e-2, atol=0.0)


def test_bf16_logps_are_near_float32() -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(30, 16), torch.randn(200, 16), torch.randint(200, (30,))
    exact = plain_head_logps(hidden, weight, None, targets, torch.float32)
    rounded = plain_head_logps(hidden, weight, None, targets, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_no_rows() -> None:
    hidden, weight = torch.zeros(0, 8, requires_grad=True), torch.ones(50, 8, requires_grad=True)
    logps = plain_head_logps(hidden, weight, None, torch.zeros(0, dtype=torch.long), torch.float32)
    logps.sum().backward()
    assert logps.shape == (0,)
    assert weight.grad is not None
    assert not weight.grad.any()


def test_without_gradient_no_gradient_is_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight = torch.randn(5, 8), torch.randn(50, 8, requires_grad=True)
    wanted: list[bool] = []
    score = head._score

    def watched(*args: Any) -> torch.Tensor:
        wanted.append(args[-1])
        return score(*args)

    monkeypatch.setattr(head, "_score", watched)
    with torch.no_grad():
        plain_head_logps(hidden, weight, None, torch.arange(5), torch.float32)
    assert wanted == [False]
