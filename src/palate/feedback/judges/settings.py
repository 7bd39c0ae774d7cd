"""Settings of a judge over an API."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from palate.errors import ConfigError
from palate.feedback.judges.prompt import DEFAULT, JudgePrompt
from palate.feedback.judges.usage import Estimate, Limits, Prices

DEFAULT_BASE_URL = "https://api.openai.com/v1"
BASE_URL_VARIABLES = ("PALATE_BASE_URL", "OPENAI_BASE_URL")

_MORE_TOKENS = 4096
"""Further tokens for a second try of a model that spent all of the first on thinking."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """How a judge over an API is asked.

    Attributes:
        base_url: of the endpoint, if the judge's name has none, or several (`URL,URL=2`); None for PALATE_BASE_URL,
            OPENAI_BASE_URL, OpenAI.
        prompt: name of a built-in prompt, or a file.
        temperature: 0 for the likeliest verdict.
        thinking_budget: tokens for thinking before the reply, besides the prompt's `max_tokens`.
        commit_first: whether the judge first answers the prompt itself, without seeing the answers.
        logprobs: whether the verdict is read from the probabilities of the letters.
        repeat: number of a repetition, which is asked although its question was answered before; to measure stability.
        in_flight: most requests at once for each URL.
        timeout: seconds for one reply.
        attempts: times that a request is sent while the endpoint is busy or cannot be reached.
        prices, limits: of the requests.
        store: URL of the store with the judge's replies; None for PALATE_STORE or palate.db in the current folder.
        rubrics: file to which criteria that the judge writes are appended.
        announce: called with an estimate before requests are sent.
    """

    base_url: str | None = None
    prompt: str = DEFAULT
    temperature: float = 0.0
    thinking_budget: int = 0
    commit_first: bool = False
    logprobs: bool = False
    repeat: int = 0
    in_flight: int = 8
    timeout: float = 300.0
    attempts: int = 7
    prices: Prices = field(default_factory=Prices)
    limits: Limits = field(default_factory=Limits)
    store: str | None = None
    rubrics: Path | None = None
    announce: Callable[[Estimate], None] | None = None

    def check(self, prompt: JudgePrompt) -> None:
        """Raise ConfigError if the settings do not fit together."""
        if self.logprobs and prompt.output != "letter":
            raise ConfigError(
                f"--logprobs needs a prompt that asks for the letter alone, such as criteria; {prompt.name} asks for a "
                "reason first"
            )
        if self.limits.usd is not None and not self.prices.known:
            raise ConfigError("--max-usd needs the prices: --price-in and --price-out, in USD per million tokens")

    def url(self, in_name: str | None, environment: Mapping[str, str] = os.environ) -> str:
        """The base URL: of the judge's name, else of the settings, else of the environment, else OpenAI's."""
        named = (environment.get(name, "").strip() for name in BASE_URL_VARIABLES)
        return in_name or self.base_url or next(filter(None, named), DEFAULT_BASE_URL)

    def hash(self, prompt: JudgePrompt) -> str:
        """8 hexadecimal digits of what determines a verdict besides the model: prompt, decoding and way of asking."""
        parts = [prompt.sha256, self.temperature, self.thinking_budget, self.commit_first, self.logprobs]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]

    def max_tokens(self, wanted: int) -> int:
        """Tokens of a reply with `wanted` tokens of text."""
        return wanted + self.thinking_budget

    def raised_tokens(self, wanted: int) -> int:
        """Tokens of the second try."""
        return wanted + max(_MORE_TOKENS, 4 * self.thinking_budget)
