"""Smoke prompts: whether a version answers at all, before requests of people go to it."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from palate.errors import ArtifactError, EngineError
from palate.serving.backends.base import Backend
from palate.serving.problems import ApiError
from palate.stats.repetition import repeats

PROMPTS: Final = ("Hello! How are you?", "Name three fruits.", "Write one sentence about the sea.")
_MAX_TOKENS = 32
_SECONDS = 120.0


class DegenerateError(ArtifactError):
    """A version answers smoke prompts with nothing, repetitions, or log-probabilities that are no numbers."""


async def check_answers(backend: Backend, current: Backend) -> None:
    """Ask a new version the smoke prompts, greedily.

    What the version in use answers no better is not held against the new one, so a small model may repeat itself.

    Raises:
        DegenerateError: an answer is bad, and all of the version in use are good.
        EngineError: the version does not answer.
    """
    problem = await _problem(backend)
    if problem is None:
        return
    try:
        in_use = await _problem(current)
    except EngineError:
        in_use = "does not answer"
    if in_use is None:
        raise DegenerateError(f"smoke prompts: {backend.version} {problem}, and {current.version} does not")


async def _problem(backend: Backend) -> str | None:
    """What is wrong with the first bad answer; None if all are good."""
    for prompt in PROMPTS:
        choice = (await _reply(backend, prompt))["choices"][0]
        text = (choice.get("message") or {}).get("content") or ""
        if not all(map(math.isfinite, _logprobs(choice))):
            return f"gives {prompt!r} log-probabilities that are no numbers"
        if not text.strip():
            return f"answers {prompt!r} with nothing"
        if repeats(text):
            return f"answers {prompt!r} with a repetition: {text.strip()[-60:]!r}"
    return None


async def _reply(backend: Backend, prompt: str) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": prompt}], "max_tokens": _MAX_TOKENS, "temperature": 0.0}
    try:
        async with asyncio.timeout(_SECONDS):
            try:
                return await backend.reply("chat/completions", {**asked, "logprobs": True})
            except ApiError as error:
                if error.status not in (400, 422):
                    raise
                return await backend.reply("chat/completions", asked)  # an engine without log-probabilities
    except (ApiError, TimeoutError) as error:
        why = error.message if isinstance(error, ApiError) else f"no answer within {_SECONDS:g} s"
        raise EngineError(f"smoke prompts: {backend.version}: {why}") from error


def _logprobs(choice: dict[str, Any]) -> list[float]:
    content = (choice.get("logprobs") or {}).get("content") or ()
    return [token["logprob"] for token in content if isinstance(token.get("logprob"), float)]
