"""A streamed answer of an engine, put together from its chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.errors import EngineError
from palate.models.generation.decoding import Decoding
from palate.records import Answer

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

# The longest tokens of known tokenizers, runs of spaces, have 128 characters.
_CHARACTERS_PER_TOKEN = 128


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
