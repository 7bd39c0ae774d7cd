"""The decoding loop, and sampling with one random number for each token.

Each prompt is prefilled once for all its samples, and finished rows are removed from the batch.
transformers' own loop is slow for many answers: it prefills a prompt for every sample, copies the whole cache at every
token, and under autocast casts float32 weights again at every token.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palate.models.attention.kernels import original_attention
from palate.models.generation.decoding import Decoding
from palate.models.precision import Precision
from palate.models.upstream import evaluating

# A nucleus is looked for among so many tokens first.
_NUCLEUS = 256

Choose = Callable[[Tensor, Tensor, int], Tensor]
"""(logits float32 [rows, V], numbers of the rows int64 [rows], step) → tokens int64 [rows]."""


class BatchDecoder(Protocol):
    """A model that reads a batch of prompts, then one token at a time for each row."""

    def prefill(self, prompts: Sequence[Sequence[int]], copies: int) -> Tensor:
        """Logits float32 [prompts · copies, V] of the token after each prompt; copies of a prompt are consecutive."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Logits float32 [rows, V] after one more token for each row, int64 [rows]."""
        ...

    def keep(self, kept: Tensor) -> bool:
        """Continue with these rows only, int64 [kept]; returns False if rows cannot be removed from the batch."""
        ...


def decode(
    decoder: BatchDecoder,
    prompts: Sequence[Sequence[int]],
    copies: int,
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    choose: Choose,
    on_token: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Token ids of the answers to one batch of prompts, `copies` of each, in the order of the prompts.

    Args:
        decoder: the model; gradient must be off.
        stop_ids: token ids that end an answer.
        choose: picks the next tokens; row numbers are those of the returned answers.
        on_token: called with the row and the token of each new token; what it raises ends the decoding.
    """
    logits = decoder.prefill(prompts, copies)
    device = logits.device
    rows = torch.arange(len(prompts) * copies, device=device)
    stops = torch.tensor(list(stop_ids), device=device)
    answers: list[list[int]] = [[] for _ in range(len(rows))]
    unfinished = torch.ones(len(rows), dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        tokens = choose(logits, rows, step)
        for row, token, continues in zip(rows.tolist(), tokens.tolist(), unfinished.tolist(), strict=True):
            if continues:
                answers[row].append(token)
                if on_token is not None:
                    on_token(row, token)
        unfinished &= ~torch.isin(tokens, stops)
        remaining = int(unfinished.sum())
        if remaining == 0 or step == max_new_tokens - 1:
            break
        # Removing rows copies the cache, so it is done only when a quarter of them have finished.
        if remaining <= 0.75 * len(rows):
            kept = unfinished.nonzero().squeeze(-1)
            if decoder.keep(kept):
                rows, tokens, unfinished = rows[kept], tokens[kept], unfinished[kept]
        logits = decoder.step(tokens)
    return answers


@contextlib.contextmanager
def linear_weights_in(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """A context in which linear layers have their weights in `dtype`, so that autocast does not cast them each token.

    A head tied to the embedding gets a separate copy; the embedding is not changed.
    """
    swapped: list[tuple[Any, Tensor]] = []
    try:
        if dtype is not None:
            for module in model.modules():
                if type(module) is nn.Linear and module.weight.dtype != dtype:
                    swapped.append((module, module.weight))
                    module.weight = nn.Parameter(module.weight.detach().to(dtype), requires_grad=False)
        yield
    finally:
        for module, weight in swapped:
            module.weight = weight


@contextlib.contextmanager
def prepared_decoder(
    model: Any,
    precision: Precision,
    rows: int,
    llama: Callable[[Any, torch.dtype | None, int], Any],
    own: Callable[[Any], Any],
) -> Iterator[Any]:
    """A context with the model prepared for decoding and its decoder; afterwards the model is as before.

    Args:
        rows: answers decoded at a time.
        llama: makes the decoder for Llama-like models on a CPU, or None for other models.
        own: makes a decoder that calls the model's own forward, whose linear weights then have the run's precision.
    """
    with evaluating(model), original_attention(model):
        with torch.no_grad():
            fast = llama(model, precision.autocast, rows)
        if fast is not None:
            yield fast
            return
        with linear_weights_in(model, precision.autocast):
            yield own(model)


def uniform_numbers(decoding: Decoding, seed: int) -> Tensor:
    """The random numbers of one answer, one for each token: float64 [max_new_tokens] in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(decoding.max_new_tokens, generator=generator, dtype=torch.float64)


def draw_tokens(scores: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """The token of each row at which the cumulative probability exceeds `uniform`, int64 [rows, 1].

    Of logits [rows, V] and uniform float64 [rows, 1] in [0, 1); with top_p, only of the likeliest tokens.
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


def _invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
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
