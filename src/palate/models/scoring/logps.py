"""Log-probabilities of tokens, and their sums over completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class TokenLogps(NamedTuple):
    """Scores of the trained tokens, float32 [M], in the order of `Batch.target_ids`.

    Attributes:
        logps: log π of the token.
        log_square_sums: log Σ_v π(v)² of the distribution that the token came from, without gradient; None unless
            requested.
        values: value of the state in which the token was chosen; None without a value head.
        router_logits: one tensor for each layer with experts, [tokens of the batch, E]; None unless requested.
    """

    logps: Tensor
    log_square_sums: Tensor | None = None
    values: Tensor | None = None
    router_logits: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, slots=True)
class Logps:
    """Per-completion log-probabilities.

    Attributes:
        sums: float32 [C], Σ log π over the completion's trained tokens.
        tokens: float32 [C], number of those tokens.
        token_logps: float32 [M], the terms of the sums.
        log_square_sums: float32 [M], log Σ_v π(v)² at each of those tokens; None unless requested.
        values: float32 [M], the value head's output for each of those tokens; None without one.
    """

    sums: Tensor
    tokens: Tensor
    token_logps: Tensor
    log_square_sums: Tensor | None = None
    values: Tensor | None = None

    @property
    def means(self) -> Tensor:
        """float32 [C], per-token means; 0 for a completion without trained tokens."""
        return self.sums / self.tokens.clamp(min=1)


class Owners(Protocol):
    """Assigns trained tokens [M] to completions [C]: a `Batch`, or all batches of a step."""

    @property
    def completion_of(self) -> Tensor: ...

    @property
    def completions(self) -> int: ...


def per_completion(tokens: TokenLogps, batch: Owners) -> Logps:
    """Sum token log-probabilities [M] into their completions [C]."""
    zeros = tokens.logps.new_zeros(batch.completions)
    counts = zeros.index_add(0, batch.completion_of, torch.ones_like(tokens.logps))
    sums = zeros.index_add(0, batch.completion_of, tokens.logps)
    return Logps(sums, counts, tokens.logps, tokens.log_square_sums, tokens.values)
