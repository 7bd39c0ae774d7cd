"""All n answers of an engine that gives one at a time: llama.cpp ignores `n`, or refuses it."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from palate.serving.problems import ApiError, invalid

Ask: TypeAlias = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]]
_ONE_ONLY = re.compile("one (completion )?choice", re.IGNORECASE)
"""How llama.cpp's server refuses several answers."""


def answer_count(body: dict[str, Any]) -> int:
    """How many answers a request asks for: n to each prompt."""
    return (body.get("n") or 1) * _prompt_count(body)


async def all_answers(ask: Ask, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a reply with every answer, and a last one with the usage of all.

    What the engine leaves out is asked for again, one answer after the other: the same request with another seed. An
    engine that gives all of them at once is asked once.

    Args:
        ask: sends a request; gives its chunks, or the whole reply as one.
        body: of the request.

    Raises:
        ApiError: 400 if answers to several prompts are missing; else as `ask`.
    """
    answered: set[int] = set()
    usages: list[dict[str, Any]] = []
    head: dict[str, Any] = {}
    seed = body["seed"] if body.get("seed") is not None else secrets.randbelow(2**31)
    apart = False
    while len(answered) < answer_count(body):
        before = len(answered)
        request = {**body, "n": 1, "seed": (seed + before) % 2**31} if apart else body
        try:
            async with aclosing(ask(request)) as chunks:
                async for chunk in chunks:
                    if isinstance(usage := chunk.get("usage"), dict):
                        usages.append(usage)
                    head = head or {key: value for key, value in chunk.items() if key not in ("choices", "usage")}
                    choices = [{**choice, "index": choice.get("index", 0) + before} for choice in chunk["choices"]]
                    answered |= {choice["index"] for choice in choices}
                    if choices:
                        yield {**head, "choices": choices}
        except ApiError as error:
            if apart or answered or not _ONE_ONLY.search(error.message):
                raise
        else:
            if len(answered) == before:
                raise ApiError(502, "the engine's reply has no choices", code="upstream_error")
        if len(answered) < answer_count(body) and _prompt_count(body) > 1:
            raise invalid("n: the engine gives one answer at a time; send each prompt in a request of its own", "n")
        apart = True
    if usages:
        yield {**head, "choices": [], "usage": _sum(usages)}


def _prompt_count(body: dict[str, Any]) -> int:
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1


def _sum(usages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts of the last one, or their sum over several requests."""
    total: Counter[str] = Counter()
    for usage in usages:
        total.update({key: value for key, value in usage.items() if isinstance(value, int)})
    return dict(total)
