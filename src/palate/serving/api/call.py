"""A request of the API, checked, in the form that backends get, and the form of its reply.

Backends speak `/v1/chat/completions` and `/v1/completions`, so their replies pass through with names of ours.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.data.turns.cells import RowError
from palate.data.turns.messages import read_turns
from palate.records import Messages
from palate.serving.backends.base import Endpoint
from palate.serving.problems import ApiError, invalid
from palate.serving.wire import event, parse_json


class Form(Protocol):
    """How a reply is written for the client."""

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        """The body of a reply that is not streamed."""
        ...

    def pieces(self, chunk: dict[str, Any]) -> Iterable[bytes]: ...

    def last(self) -> Iterable[bytes]:
        """The events after the last chunk."""
        ...

    def failed(self, error: ApiError) -> Iterable[bytes]:
        """The events of a reply that breaks off."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    Attributes:
        endpoint: of the backends.
        body: of the request to them, without `model`.
        asked: what the client sent.
        form: how the reply is written.
    """

    endpoint: Endpoint
    body: dict[str, Any]
    asked: Parameters
    form: Form


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool = False


class Parameters(BaseModel):
    """What all endpoints share; further parameters pass through to an engine."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    model: str | None = None
    """The only one, if it is None."""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: int = Field(1, ge=1)
    stop: Annotated[str, Field(min_length=1)] | list[Annotated[str, Field(min_length=1)]] = []
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    user: str | None = None
    store: bool | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop


class ChatParameters(Parameters):
    """Parameters of `/v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    tools: list[dict[str, Any]] = []

    def turns(self) -> Messages:
        """The conversation; raises ApiError for contents that are not text."""
        try:
            return read_turns(self.messages, "messages")
        except RowError as error:
            raise invalid(str(error), "messages") from error


class TextParameters(Parameters):
    """Parameters of `/v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [token for token in self.prompt if isinstance(token, int)]
        return [ids] if ids else [part for part in self.prompt if not isinstance(part, int)]


_KINDS: dict[Endpoint, type[Parameters]] = {"chat/completions": ChatParameters, "completions": TextParameters}
P = TypeVar("P", bound=BaseModel)


def read_parameters(kind: type[P], body: dict[str, Any]) -> P:
    """The parameters of a request; a null is a parameter that is not given.

    Raises:
        ApiError: names the first wrong one.
    """
    try:
        return kind(**{key: value for key, value in body.items() if value is not None})
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(str(part) for part in details["loc"] if not str(part).startswith(("list[", "constrained-")))
        raise invalid(f"{path}: {details['msg']}", path or None) from error


def refuse_unknown(asked: Parameters, neutral: Mapping[str, tuple[Any, ...]], harmless: Collection[str]) -> None:
    """Refuse parameters that would change the answer and are not obeyed.

    Args:
        neutral: the values with which such a parameter changes nothing.
        harmless: parameters that never change the answer.

    Raises:
        ApiError: 400, which names the first one.
    """
    for name, value in (asked.model_extra or {}).items():
        if name not in harmless and value not in neutral.get(name, ()):
            raise invalid(f"{name}: not supported here; leave it out", name, "unsupported_parameter")


def read_json(data: bytes) -> dict[str, Any]:
    """The JSON object of a request; raises ApiError."""
    try:
        value = parse_json(data)
        if b"\\u" in data:  # half a surrogate pair is text that no tokenizer and no engine can read
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise invalid("the body is not valid JSON in UTF-8", code="invalid_json") from error
    if not isinstance(value, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    return value


def read_call(endpoint: Endpoint, body: dict[str, Any], *, max_n: int) -> Call:
    """The request in a body; raises ApiError that names the wrong parameter."""
    asked = read_parameters(_KINDS[endpoint], body)
    if isinstance(asked, ChatParameters):
        asked.turns()
    if asked.n > max_n:
        raise invalid(f"n: at most {max_n} answers to one request", "n")
    passed = {key: value for key, value in body.items() if value is not None and key not in ("model", "stream")}
    return Call(endpoint, passed, asked, CompletionForm(include_usage=asked.stream_options.include_usage))


class CompletionForm:
    """Chunks as they are; the usage only for a client that asked for it."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        """See Form."""
        return reply

    def pieces(self, chunk: dict[str, Any]) -> Iterable[bytes]:
        """See Form."""
        if not self._include_usage and "usage" in chunk:
            if not chunk.get("choices"):
                return ()
            chunk = {key: value for key, value in chunk.items() if key != "usage"}
        return (event(chunk),)

    def last(self) -> Iterable[bytes]:
        """See Form."""
        return (b"data: [DONE]\n\n",)

    def failed(self, error: ApiError) -> Iterable[bytes]:
        """See Form."""
        return (event(error.body()),)
