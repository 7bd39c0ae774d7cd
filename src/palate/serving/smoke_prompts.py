"""Smoke prompts: whether a version answers at all, before requests of people go to it and when a server starts."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from palate.errors import ArtifactError, EngineError, PalateError
from palate.serving.backends.base import Backend
from palate.serving.problems import ApiError, Busy
from palate.stats.repetition import repeats

PROMPTS: Final = ("Hello! How are you?", "Name three fruits.", "Write one sentence about the sea.")
_TOO_MANY = 2
"""Bad answers with which a version is refused."""
_MAX_TOKENS = 32
_SECONDS = 120.0
_BUSY_SECONDS = 1.0


class DegenerateError(ArtifactError):
    """A version answers smoke prompts with nothing, repetitions, or log-probabilities that are no numbers."""


async def check_answers(backend: Backend, current: Backend | None = None) -> None:
    """Ask a version the smoke prompts, greedily.

    A small model may give one bad answer, and a new version as many as the one in use.

    Args:
        current: the version in use, asked if a new one, `backend`, gives more bad answers than one.

    Raises:
        DegenerateError: a log-probability is no number, or more answers are bad than that.
        EngineError: the version does not answer.
    """
    bad = await bad_answers(backend)
    if len(bad) < _TOO_MANY:
        return
    said = f"smoke prompts: {backend.version} answers {len(bad)} of {len(PROMPTS)} badly"
    if current is not None:
        try:
            in_use = len(await bad_answers(current))
        except PalateError:
            in_use = len(PROMPTS)
        if len(bad) <= in_use:
            return
        said += f", {current.version} {in_use}"
    raise DegenerateError(f"{said}: {'; '.join(bad)}")


async def bad_answers(backend: Backend) -> list[str]:
    """What is wrong with each bad answer to a smoke prompt; raises as `check_answers`."""
    found = []
    for prompt in PROMPTS:
        choice = (await _reply(backend, prompt))["choices"][0]
        message = choice.get("message") or {}
        # A model that thinks first may be cut off before its answer.
        texts = (message.get(key) for key in ("content", "reasoning_content", "reasoning"))
        text = next((text for given in texts if (text := str(given or "").strip())), "")
        if not all(map(math.isfinite, _logprobs(choice))):
            raise DegenerateError(f"smoke prompts: {backend.version}: log-probabilities of {prompt!r} are no numbers")
        if not text:
            found.append(f"{prompt!r} with nothing")
        elif repeats(text):
            found.append(f"{prompt!r} with a repetition, {text[-60:]!r}")
    return found


async def _reply(backend: Backend, prompt: str) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": prompt}], "max_tokens": _MAX_TOKENS, "temperature": 0.0}
    form: dict[str, Any] = {**asked, "logprobs": True}
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                try:
                    return await backend.reply("chat/completions", form)
                except Busy:  # with requests of people, which come first
                    await asyncio.sleep(_BUSY_SECONDS)
                except ApiError as error:
                    if error.status not in (400, 422) or form is asked:
                        raise
                    form = asked  # an engine without log-probabilities
    except (ApiError, TimeoutError) as error:
        why = error.message if isinstance(error, ApiError) else f"no answer within {_SECONDS:g} s"
        raise EngineError(f"smoke prompts: {backend.version}: {why}") from error


def _logprobs(choice: dict[str, Any]) -> list[float]:
    content = (choice.get("logprobs") or {}).get("content") or ()
    return [token["logprob"] for token in content if isinstance(token.get("logprob"), float)]
