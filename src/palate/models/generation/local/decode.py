"""The decoding loop: each prompt is prefilled once for all its samples, and finished rows are removed from the batch.

transformers' own loop is slow for many answers: it prefills a prompt for every sample, copies the whole cache at every
token, and under autocast casts float32 weights again at every token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

Choose = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(logits float32 [rows, V], numbers of the rows int64 [rows], step) → tokens int64 [rows]."""


class Reader(Protocol):
    """A model that reads a batch of prompts, then one token at a time for each row."""

    def first(self, prompts: Sequence[Sequence[int]], copies: int) -> torch.Tensor:
        """Logits float32 [prompts · copies, V] of the token after each prompt; copies of a prompt are consecutive."""
        ...

    def next(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits float32 [rows, V] after one more token for each row, int64 [rows]."""
        ...

    def keep(self, kept: torch.Tensor) -> bool:
        """Continue with these rows only, int64 [kept]; returns False if rows cannot be removed from the batch."""
        ...


def decode(
    reader: Reader,
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
        reader: the model; gradient must be off.
        copies: answers to each prompt.
        max_new_tokens: maximum length of an answer.
        stop_ids: token ids that end an answer.
        choose: picks the next tokens from logits; row numbers are those of the returned answers.
        on_token: called with the row and the token of each new token; what it raises ends the decoding.
    """
    logits = reader.first(prompts, copies)
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
            if reader.keep(kept):
                rows, tokens, unfinished = rows[kept], tokens[kept], unfinished[kept]
        logits = reader.next(tokens)
    return answers


@contextlib.contextmanager
def linear_weights_in(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """A context in which linear layers have their weights in `dtype`, so that autocast does not cast them each token.

    A head tied to the embedding gets a separate copy; the embedding is not changed.
    """
    swapped: list[tuple[Any, torch.Tensor]] = []
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
