"""The reply of an OpenAI-compatible engine, read with care: its fields may be missing or of any type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from palate.errors import EngineError


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """A generated token with the log-probabilities (natural) of the likeliest tokens at its place.

    Attributes:
        token: the text of the token that was sampled.
        logprob: of this token.
        top: (text, log-probability) of the likeliest tokens, usually with the sampled one.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """The first choice of a reply.

    Attributes:
        text: the content; empty if there is none.
        finish_reason: `stop`, `length`, or the engine's own word.
        reasoning: the text of a thinking model before its content, if the engine returns it apart.
        prompt_tokens, completion_tokens: as the engine counts them; None if it does not.
        model: name of the model that answered, as the engine reports it.
        retries: number of times that the request was sent again.
        choices: number of choices in the reply.
        url: that the request was sent to.
        tokens: log-probabilities, if they were asked for and the engine gives them.
    """

    text: str
    finish_reason: str
    reasoning: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str = ""
    retries: int = 0
    choices: int = 1
    url: str = ""
    tokens: tuple[TokenChoice, ...] = ()

    def without(self, secret: str) -> Completion:
        """The same with `secret` replaced in its texts."""
        return replace(
            self,
            text=self.text.replace(secret, "<key>"),
            reasoning=self.reasoning.replace(secret, "<key>"),
            finish_reason=self.finish_reason.replace(secret, "<key>"),
            model=self.model.replace(secret, "<key>"),
        )


def read_completion(reply: Any, url: str, *, retries: int = 0) -> Completion:
    """The completion in a reply of the SDK, which does not check replies and returns an HTML page as a string.

    Raises:
        EngineError: there is no choice with a message, or its content is no text.
    """
    try:
        choice = reply.choices[0]
        message = choice.message
        text = message.content
    except (AttributeError, IndexError, TypeError) as error:
        raise EngineError(f"{url}: the reply has no choices[0].message.content") from error
    if text is not None and not isinstance(text, str):
        raise EngineError(f"{url}: the reply's content is a {type(text).__name__}, not text")
    usage = getattr(reply, "usage", None)
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    return Completion(
        text=text or "",
        finish_reason=str(getattr(choice, "finish_reason", None) or "stop")[:40],
        reasoning=reasoning if isinstance(reasoning, str) else "",
        prompt_tokens=_count(getattr(usage, "prompt_tokens", None)),
        completion_tokens=_count(getattr(usage, "completion_tokens", None)),
        model=str(getattr(reply, "model", None) or "")[:200],
        retries=retries,
        choices=len(reply.choices),
        url=url,
        tokens=tuple(_tokens(getattr(getattr(choice, "logprobs", None), "content", None))),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _tokens(content: Any) -> Iterable[TokenChoice]:
    """The log-probabilities; none at all if one of them is not of the documented form."""
    found = []
    try:
        for entry in content or ():
            top = tuple((str(one.token), float(one.logprob)) for one in entry.top_logprobs or ())
            found.append(TokenChoice(str(entry.token), float(entry.logprob), top))
    except (AttributeError, TypeError, ValueError):
        return ()
    return found
