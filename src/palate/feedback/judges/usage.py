"""What a judge's requests use: tokens, cost, and the limits of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.charts.text import amount
from palate.models.generation.endpoints.completion import Completion

CHARACTERS_PER_TOKEN = 4
"""A usual rule for English text; it is used where the endpoint has not reported a count yet."""


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens."""

    input: float = 0.0
    output: float = 0.0

    @property
    def known(self) -> bool:
        return bool(self.input or self.output)

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """In USD."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a run; None for no limit.

    Attributes:
        usd: cost in USD.
        requests: number of requests; a repetition after an error is not counted.
    """

    usd: float | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requests, tokens and cost before they are sent; `output_tokens` is the most that the replies may have."""

    requests: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    measured: int = 0
    """Number of replies whose reported tokens the estimate is from; 0 for the characters / 4 rule."""

    def line(self) -> str:
        replies = amount(self.measured, "reply", "replies")
        rule = f"from {replies}" if self.measured else f"characters / {CHARACTERS_PER_TOKEN}"
        most = "about" if self.measured else "at most"
        cost = "" if self.usd is None else f", {most} ${self.usd:,.4f}"
        return (
            f"{amount(self.requests, 'request')}, about {self.input_tokens:,} input tokens ({rule}), "
            f"{most} {self.output_tokens:,} output tokens{cost}"
        )


class UsageMeter:
    """Counts what is used, and says when a limit is reached. Several clients may share one.

    Attributes:
        prices, limits: as given.
        requests: sent; each is counted once, however often the SDK repeats it.
        replies, failed: requests with and without a reply.
        probes: requests that asked what the endpoint can do; they are not limited by number.
        retries: repetitions by the SDK after errors of the endpoint.
        prompt_tokens, completion_tokens: as reported by the endpoint, else by the characters / 4 rule.
        usd: cost so far.
    """

    def __init__(self, prices: Prices = Prices(), limits: Limits = Limits()) -> None:
        self.prices = prices
        self.limits = limits
        self.requests = self.replies = self.failed = self.retries = self.probes = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.usd = 0.0
        self._open = 0
        self._reserved = 0.0
        self._measured: list[tuple[int, int, int]] = []

    def refusal(self, characters: int, most_tokens: int) -> str | None:
        """Why a further request may not be sent now: None if it may, "" if it may have to wait for replies.

        A request reserves the most that it can cost, so that the limit holds although replies are still open.
        """
        if self.limits.requests is not None and self.requests >= self.limits.requests:
            return f"the limit of {amount(self.limits.requests, 'request')} is reached (--max-requests)"
        if self.limits.usd is None:
            return None
        most = self.prices.cost(self.input_tokens(characters), most_tokens)
        if self.usd + most > self.limits.usd:
            return f"the limit of ${self.limits.usd:g} would be passed, ${self.usd:.4f} are used (--max-usd)"
        return None if self.usd + self._reserved + most <= self.limits.usd else ""

    def sent(self, characters: int, most_tokens: int) -> float:
        """Count a request; returns what it reserves in USD."""
        self.requests += 1
        self._open += 1
        most = self.prices.cost(self.input_tokens(characters), most_tokens)
        self._reserved += most
        return most

    def received(
        self, reserved: float, characters: int, text: str, prompt_tokens: int | None, completion_tokens: int | None
    ) -> None:
        """Count a reply."""
        if prompt_tokens is not None and completion_tokens is not None:
            self._measured.append((characters, prompt_tokens, completion_tokens))
        given = self.input_tokens(characters) if prompt_tokens is None else prompt_tokens
        made = -(-len(text) // CHARACTERS_PER_TOKEN) if completion_tokens is None else completion_tokens
        self.replies += 1
        self._count(reserved, given, made)

    def probed(self, reply: Completion | None) -> None:
        """Count a request of a probe, with its reply."""
        self.probes += 1
        if reply is not None:
            self._add(reply.prompt_tokens or 0, reply.completion_tokens or 0)

    def lost(self, reserved: float, characters: int, *, billed: bool) -> None:
        """Count a request without a reply. It may be billed unless the endpoint refused it."""
        self.failed += 1
        self._count(reserved, self.input_tokens(characters) if billed else 0, 0)

    def input_tokens(self, characters: int) -> int:
        """The tokens of a text, by the ratio of the replies so far."""
        tokens = sum(tokens for _, tokens, _ in self._measured)
        length = sum(length for length, _, _ in self._measured)
        if tokens and length:
            return -(-characters * tokens // length)
        return -(-characters // CHARACTERS_PER_TOKEN)

    def estimate(self, requests: Sequence[tuple[int, int]]) -> Estimate:
        """For requests of (characters, most tokens of the reply)."""
        given = sum(self.input_tokens(characters) for characters, _ in requests)
        made = sum(most for _, most in requests)
        if self._measured:
            mean = sum(tokens for _, _, tokens in self._measured) / len(self._measured)
            made = round(mean * len(requests))
        usd = self.prices.cost(given, made) if self.prices.known else None
        return Estimate(len(requests), given, made, usd, len(self._measured))

    def _count(self, reserved: float, given: int, made: int) -> None:
        self._open -= 1
        # Exactly 0 without open requests, so that rounding keeps no request waiting for ever.
        self._reserved = max(0.0, self._reserved - reserved) if self._open else 0.0
        self._add(given, made)

    def line(self) -> str:
        """What was used, for a person."""
        cost = f", ${self.usd:,.4f}" if self.prices.known else ""
        more = [f"{self.probes} to probe the endpoint"] if self.probes else []
        more += [f"{self.retries} sent again"] if self.retries else []
        extra = f" (and {', '.join(more)})" if more else ""
        return (
            f"{amount(self.requests, 'request')}{extra}, {self.prompt_tokens:,} input and "
            f"{self.completion_tokens:,} output tokens{cost}"
        )

    def _add(self, given: int, made: int) -> None:
        self.prompt_tokens += given
        self.completion_tokens += made
        self.usd += self.prices.cost(given, made)
