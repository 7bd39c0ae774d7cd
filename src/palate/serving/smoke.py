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
_TOO_MANY = 2
"""Bad answers with which a version is refused."""
_MAX_TOKENS = 32
_SECONDS = 120.0


class DegenerateError(ArtifactError):
    """A version answers smoke prompts with nothing, repetitions, or log-probabilities that are no numbers."""


async def check_answers(backend: Backend, current: Backend) -> None:
    """Ask a new version the smoke prompts, greedily.

    A small model may give one bad answer, and as many as the version in use.

    Raises:
        DegenerateError: a log-probability is no number, or more answers are bad than that.
        EngineError: the version does not answer.
    """
    bad = await _bad_answers(backend)
    if len(bad) < _TOO_MANY:
        return
    try:
        in_use = len(await _bad_answers(current))
    except (EngineError, DegenerateError):
        in_use = len(PROMPTS)
    if len(bad) > in_use:
        said = (
            f"smoke prompts: {backend.version} answers {len(bad)} of {len(PROMPTS)} badly, {current.version} {in_use}"
        )
        raise DegenerateError(f"{said}: {'; '.join(bad)}")


async def _bad_answers(backend: Backend) -> list[str]:
    """What is wrong with each bad answer; raises as `check_answers`."""
    found = []
    for prompt in PROMPTS:
        choice = (await _reply(backend, prompt))["choices"][0]
        text = ((choice.get("message") or {}).get("content") or "").strip()
        if not all(map(math.isfinite, _logprobs(choice))):
            raise DegenerateError(f"smoke prompts: {backend.version}: log-probabilities of {prompt!r} are no numbers")
        if not text:
            found.append(f"{prompt!r} with nothing")
        elif repeats(text):
            found.append(f"{prompt!r} with a repetition, {text[-60:]!r}")
    return found


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
