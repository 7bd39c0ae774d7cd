"""Sampling of tokens from logits, with one uniform random number for each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from palate.models.generation.decoding import Decoding

# A nucleus is looked for among so many tokens first.
_NUCLEUS = 256


def uniform_numbers(decoding: Decoding, seed: int) -> torch.Tensor:
    """The random numbers of one answer, one for each token: float64 [max_new_tokens] in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(decoding.max_new_tokens, generator=generator, dtype=torch.float64)


def draw_tokens(scores: torch.Tensor, uniform: torch.Tensor, top_p: float) -> torch.Tensor:
    """The token of each row at which the cumulative probability exceeds `uniform`, int64 [rows, 1].

    Args:
        scores: logits [rows, vocabulary].
        uniform: float64 [rows, 1] in [0, 1).
        top_p: draw only from the likeliest tokens up to this total probability.
    """
    probabilities = torch.softmax(scores.float(), dim=-1)
    if top_p >= 1.0:
        return _invert(probabilities, uniform)
    # Sorting the whole vocabulary costs several times as much as finding the first tokens of it.
    ordered, tokens = probabilities.topk(min(_NUCLEUS, probabilities.shape[-1]))
    if bool((ordered.sum(-1) < top_p).any()):
        ordered, tokens = probabilities.sort(dim=-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return tokens.gather(-1, _invert(ordered.masked_fill(outside, 0.0), uniform))


def _invert(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The token where the cumulative probability exceeds `uniform`: int64 [rows, 1] from probabilities [rows, V].

    It first finds a block of tokens, then the token in the block, to avoid a cumulative sum over V.
    """
    rows, vocabulary = probabilities.shape
    width = math.isqrt(vocabulary) + 1
    blocks = F.pad(probabilities, (0, -vocabulary % width)).view(rows, -1, width)
    ends = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = uniform * ends[:, -1:]
    block = torch.searchsorted(ends, target, right=True).clamp_(max=ends.shape[1] - 1)
    before = torch.where(block > 0, ends.gather(-1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks[torch.arange(rows, device=block.device), block.squeeze(-1)].double().cumsum(-1)
    offset = torch.searchsorted(inside, target - before, right=True).clamp_(max=width - 1)
    return (block * width + offset).clamp_(max=vocabulary - 1)
