"""A prompt submitted to the batcher, and the tokens of its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from palate.models.generation.decoding import Decoding

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token of an answer, or its end without one.

    Attributes:
        id: of the token; None if the answer ends without one (`cancelled`, `error`).
        logprob: its natural log-probability by the model, before temperature and top-p; None without a token.
        top: (token, log-probability) of the likeliest tokens at its place, as many as were asked for.
        finish_reason: None if more tokens follow; `stop` after a stop token, `length` at the limit of tokens,
            `cancelled`, or `error`.
        error: one line, with `error`.
    """

    id: int | None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    finish_reason: str | None = None
    error: str | None = None


@dataclass(slots=True, eq=False)
class GenerationRequest:
    """An answer that was asked for: it is waiting, its prompt is being read, or it is being written.

    Attributes:
        prompt, decoding, on_token, top_logprobs: as submitted.
        uniform: random numbers of its tokens, float64.
        number: of its row; they count up in the order of arrival.
        cancelled: whether it is to end at the next step.
        read: number of tokens of the prompt that were read.
        written: number of tokens of the answer.
        newest: the last of them.
    """

    prompt: Sequence[int]
    decoding: Decoding
    on_token: Callable[[NewToken], None]
    top_logprobs: int
    uniform: Tensor
    number: int = 0
    cancelled: bool = False
    read: int = 0
    written: int = 0
    newest: int = 0

    def cancel(self) -> None:
        """End the answer at the next step, with `cancelled`; without effect on one that has ended."""
        self.cancelled = True

    @property
    def max_length(self) -> int:
        """Most tokens that it can have, with its prompt."""
        return len(self.prompt) + self.decoding.max_new_tokens

    def send(self, token: NewToken) -> None:
        """Pass a token on. A receiver that fails loses its answer, not the others theirs."""
        try:
            self.on_token(token)
        except Exception:  # whatever the receiver's code raises
            _log.exception("the receiver of an answer failed; the answer is cancelled")
            self.cancelled = True
