"""The tree in one row: who may see whom, and what is refused."""

from __future__ import annotations

import pytest
import torch
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from palate.errors import ModelError
from palate.models.attention.interface import TreeMask, tree_mask
from palate.models.attention.tree import tree_attention
from palate.text.batch import Layout, Span

LAYOUT = Layout((Span(0, 3, (2, 4, 1)), Span(10, 2, (3,)), Span(15, 0, (2, 2))))


def dense_mask(layout: Layout, window: int | None = None) -> torch.Tensor:
    """The definition, token by token: bool [T, T]."""
    owner: list[tuple[int, int, int]] = []  # (span, completion or −1 for the prompt, logical position)
    for number, span in enumerate(layout.spans):
        owner += [(number, -1, i) for i in range(span.prompt)]
        for k, n in enumerate(span.completions):
            owner += [(number, k, span.prompt + i) for i in range(n)]
    allowed = torch.zeros(len(owner), len(owner), dtype=torch.bool)
    for q, (q_span, q_part, q_at) in enumerate(owner):
        for k, (k_span, k_part, k_at) in enumerate(owner):
            related = q_span == k_span and k_part in (-1, q_part)
            allowed[q, k] = related and k_at <= q_at and (window is None or q_at - k_at < window)
    return allowed


def dense_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    allowed: torch.Tensor,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~allowed, float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], -1)
    weights = scores.softmax(-1)[..., : k.shape[2]]
    return (weights @ v).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("extra", ["plain", "softcap", "sinks"])
def test_tree_equals_the_dense_definition_with_gradients(window: int | None, extra: str) -> None:
    torch.manual_seed(0)
    tokens = LAYOUT.tokens
    q, k, v = (torch.randn(1, heads, tokens, 8, requires_grad=True) for heads in (4, 2, 2))
    softcap = 2.0 if extra == "softcap" else None
    sinks = torch.randn(4) if extra == "sinks" else None
    rule = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    mask = tree_mask(mask_function=rule)
    got, _ = tree_attention(
        torch.nn.Identity(), q, k, v, mask, layout=LAYOUT, softcap=softcap, s_aux=sinks, position_ids=None
    )
    want = dense_attention(q, k, v, dense_mask(LAYOUT, window), softcap, sinks)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(want)
    for a, b in zip(
        torch.autograd.grad((got * upstream).sum(), (q, k, v)),
        torch.autograd.grad((want * upstream).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_window_that_hides_nothing_is_plain_causal() -> None:
    mask = tree_mask(mask_function=sliding_window_causal_mask_function(100))
    assert isinstance(mask, TreeMask)
    assert mask.block(6, 6, torch.device("cpu")) is None
    assert tree_mask(mask_function=causal_mask_function) is None


def test_unknown_keywords_and_a_lost_layout_are_refused() -> None:
    x = torch.randn(1, 2, LAYOUT.tokens, 8)
    with pytest.raises(ModelError, match="position_bias"):
        tree_attention(torch.nn.Identity(), x, x, x, None, layout=LAYOUT, position_bias=x)
    with pytest.raises(ModelError, match="layout"):
        tree_attention(torch.nn.Identity(), x, x, x, None)
