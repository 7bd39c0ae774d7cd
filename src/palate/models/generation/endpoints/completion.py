"""The reply of an OpenAI-compatible engine, whole or in chunks: its fields may be missing or of any type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from palate.errors import EngineError
from palate.models.generation.decoding import Decoding
from palate.records import Answer

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

# The longest tokens of known tokenizers, runs of spaces, have 128 characters.
_CHARACTERS_PER_TOKEN = 128


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
        names = ("text", "reasoning", "finish_reason", "model")
        return replace(self, **{name: getattr(self, name).replace(secret, "<key>") for name in names})


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


class StreamedAnswer:
    """The answer that the chunks of a stream add up to."""

    def __init__(self, url: str, decoding: Decoding) -> None:
        self._url = url
        self._limit = decoding.max_new_tokens * _CHARACTERS_PER_TOKEN
        self._pieces: list[str] = []
        self._length = 0
        self._reason: str | None = None
        self._tokens: int | None = None
        self._begun = False

    def add(self, chunk: ChatCompletionChunk) -> str:
        """The new text of a chunk, "" if it has none.

        Raises:
            EngineError: it is no chunk of a chat completion, or the engine writes on beyond the request's limit.
        """
        choices = getattr(chunk, "choices", None)
        tokens = getattr(getattr(chunk, "usage", None), "completion_tokens", None)
        self._tokens = tokens if isinstance(tokens, int) else self._tokens
        if not choices:  # the last chunk may have usage only
            return ""
        self._begun = True
        reason = getattr(choices[0], "finish_reason", None)
        self._reason = str(reason) if reason else self._reason
        piece = getattr(getattr(choices[0], "delta", None), "content", None) or ""
        if not isinstance(piece, str):
            raise EngineError(f"{self._url}: a streamed content is a {type(piece).__name__}, not text")
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length > self._limit:
            raise EngineError(f"{self._url}: the engine does not end its answer at max_tokens; stopped reading")
        return piece

    def broken(self, cause: str) -> EngineError:
        """The error about a stream that ended too early."""
        return EngineError(f"{self._url}: the answer broke off after {self._length} characters ({cause}); ask again")

    def finish(self) -> Answer:
        """The complete answer; raises EngineError if it has no end."""
        if not self._begun:
            raise EngineError(f"{self._url}: the reply is no stream of chat completion chunks; ask again")
        if self._reason is None:
            raise self.broken("no finish_reason")
        return Answer("".join(self._pieces), self._reason, self._tokens)
