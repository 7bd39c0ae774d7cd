"""Block attention against softmax over an explicit tree mask, outputs and gradients."""

from __future__ import annotations

import pytest
import torch

from palate.models.attention import cpu as blocks
from palate.models.attention.cpu import cpu_tree_attention, segments
from palate.text.batch import Layout, Span

LAYOUTS = {
    "one row": Layout((Span(0, 11, ()),)),
    "pair": Layout((Span(0, 5, (9, 4)),)),
    "no prompt": Layout((Span(0, 0, (6, 7)),)),
    "four completions": Layout((Span(0, 7, (3, 1, 8, 2)),)),
    "empty completions": Layout((Span(0, 4, (0, 5, 0)),)),
    "two groups": Layout((Span(0, 3, (4, 5)), Span(12, 6, (2, 3, 4)))),
}


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, scaling: float) -> torch.Tensor:
    """[T, H, d] by a [T, T] mask that says, token by token, who sees whom."""
    owner = []
    for group, span in enumerate(layout.spans):
        owner += [(group, -1)] * span.prompt
        for number, n in enumerate(span.completions):
            owner += [(group, number)] * n
    allowed = torch.tensor(
        [[j <= i and a[0] == b[0] and b[1] in (-1, a[1]) for j, b in enumerate(owner)] for i, a in enumerate(owner)]
    )
    repeat = q.shape[0] // k.shape[0]
    scores = q @ k.repeat_interleave(repeat, 0).transpose(1, 2) * scaling
    p = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return (p @ v.repeat_interleave(repeat, 0)).transpose(0, 1)


def random_heads(tokens: int, heads: int = 4, key_heads: int = 2, value_width: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (heads, 8), (key_heads, 8), (key_heads, value_width)
    return [torch.randn(n, tokens, width, generator=generator).requires_grad_() for n, width in shapes]


def assert_equals_dense(layout: Layout, value_width: int = 8) -> None:
    inputs = random_heads(layout.tokens, value_width=value_width)
    upstream = torch.randn(layout.tokens, 4, value_width, generator=torch.Generator().manual_seed(1))
    ours = cpu_tree_attention(*inputs, layout, 0.3)
    want = dense(*inputs, layout, 0.3)
    torch.testing.assert_close(ours, want, atol=1e-5, rtol=1e-5)
    for got, expected in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(want, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kept", [0, 6, 1024])
@pytest.mark.parametrize(("block", "tile"), [(1, 1), (3, 3), (4, 2), (128, 32)])
@pytest.mark.parametrize("name", LAYOUTS)
def test_equals_dense_attention(monkeypatch: pytest.MonkeyPatch, name: str, block: int, tile: int, kept: int) -> None:
    monkeypatch.setattr(blocks, "QUERY_BLOCK", block)
    monkeypatch.setattr(blocks, "TILE", tile)
    monkeypatch.setattr(blocks, "KEPT_KEYS", kept)
    assert_equals_dense(LAYOUTS[name])


@pytest.mark.parametrize("width", [5, 12])
def test_values_may_have_a_width_of_their_own(width: int) -> None:
    assert_equals_dense(LAYOUTS["two groups"], width)


def test_completions_do_not_see_each_other() -> None:
    layout = LAYOUTS["four completions"]
    q, k, v = (t.detach() for t in random_heads(layout.tokens))
    before = cpu_tree_attention(q, k, v, layout, 0.3)
    v[:, 8] += 100.0  # a token of the first completion
    changed = (cpu_tree_attention(q, k, v, layout, 0.3) != before).any(-1).any(-1)
    assert changed.nonzero().flatten().tolist() == [8, 9]


def test_bf16_is_as_close_to_float32_as_its_rounding() -> None:
    layout = LAYOUTS["two groups"]
    inputs = random_heads(layout.tokens)
    exact = cpu_tree_attention(*inputs, layout, 0.3)
    rounded = cpu_tree_attention(*(t.bfloat16() for t in inputs), layout, 0.3)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0.03)


def test_without_gradient_nothing_is_kept() -> None:
    layout = LAYOUTS["pair"]
    q, k, v = (t.detach() for t in random_heads(layout.tokens))
    assert blocks.tree_forward(q, k, v, segments(layout), 0.3, keep=False)[1] == []
