"""Answers from an OpenAI-compatible engine (vLLM, llama.cpp, a hosted API), through the openai SDK."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from palate.errors import EngineError, EngineRefused
from palate.models.generation.decoding import Decoding
from palate.records import Answer, Messages, as_turns

if TYPE_CHECKING:
    from openai import APIStatusError, DefaultHttpxClient, Stream
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

T = TypeVar("T")

KEY_VARIABLES = ("PALATE_API_KEY", "OPENAI_API_KEY")
_CHAT = "chat/completions"
# The longest tokens of known tokenizers, runs of spaces, have 128 characters.
_CHARACTERS_PER_TOKEN = 128
_CHECK_SECONDS = 10.0
_LATER = "run again later; finished work is kept"


class Engine:
    """A chat engine at a base URL.

    Args:
        base_url: URL that ends in `/v1`.
        model: the engine's name for the model.
        timeout: seconds to wait for one answer.
        attempts: number of times a request is sent if the engine is busy or cannot be reached.
        workers: concurrent requests.
        http_client: for tests.

    The API key, if the engine needs one, is read from the environment (PALATE_API_KEY or OPENAI_API_KEY). It is used in
    requests only and never written to a file.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        timeout: float = 300.0,
        attempts: int = 7,
        workers: int = 8,
        http_client: DefaultHttpxClient | None = None,
    ) -> None:
        _check_url(base_url)
        from openai import DefaultHttpxClient, OpenAI  # slow to import, and most runs need no engine

        self.name = model
        self.identity: str | None = None
        self._base = base_url.rstrip("/")
        self._attempts = attempts
        self._workers = workers
        self._key = next((key for name in KEY_VARIABLES if (key := os.environ.get(name, "").strip())), "none")
        self._client = OpenAI(
            api_key=self._key,
            base_url=self._base,
            timeout=timeout,
            max_retries=attempts - 1,
            http_client=http_client or DefaultHttpxClient(timeout=timeout, follow_redirects=False),
        )

    def answers(
        self,
        prompts: Sequence[Messages],
        decoding: Decoding,
        seeds: Sequence[int],
        *,
        tools: Sequence[str | None] | None = None,
    ) -> list[Answer]:
        """One answer per conversation, each sampled with its own seed if the engine supports seeds.

        Args:
            tools: JSON list of tool specifications for each conversation, or None.

        Raises:
            EngineError: the engine cannot be reached, refuses, or its reply is not a chat completion.
        """
        with ThreadPoolExecutor(self._workers) as pool:
            offered = tools or [None] * len(prompts)
            return list(
                pool.map(lambda prompt, seed, spec: self._answer(prompt, decoding, seed, spec), prompts, seeds, offered)
            )

    def stream(
        self,
        prompt: Messages,
        decoding: Decoding,
        seed: int,
        on_text: Callable[[str], None],
        *,
        tools: str | None = None,
    ) -> Answer:
        """The answer to one conversation; `on_text` gets each piece of its text, some empty, as it arrives.

        What `on_text` raises ends the request and is raised here.

        Raises:
            EngineError: as in `answers`, or the answer broke off: it has no finish reason.
        """
        request = self._chat(prompt, decoding, seed, tools)
        chunks: Stream[ChatCompletionChunk] = self._request(
            _CHAT, lambda: self._client.chat.completions.create(**request, stream=True)
        )
        answer = _StreamedAnswer(f"{self._base}/{_CHAT}", limit=decoding.max_new_tokens * _CHARACTERS_PER_TOKEN)
        with chunks:
            for chunk in self._read(chunks, answer):
                on_text(answer.add(chunk))
        return answer.finish()

    def _read(
        self, chunks: Iterable[ChatCompletionChunk], answer: _StreamedAnswer
    ) -> Iterator[ChatCompletionChunk]:
        """The chunks; an EngineError if the connection breaks or the engine reports an error between them."""
        from openai import APIError

        try:
            yield from chunks
        except (APIError, json.JSONDecodeError, UnicodeDecodeError) as error:
            cause = error.__cause__ or error
            detail = " ".join(str(cause).split()).replace(self._key, "<key>")[:200]
            raise answer.broken(f"{type(cause).__name__}: {detail}") from error

    def _chat(self, prompt: Messages, decoding: Decoding, seed: int, tools: str | None) -> dict[str, Any]:
        """The body of a chat request."""
        request: dict[str, Any] = {
            "model": self.name,
            "messages": as_turns(prompt, arguments_as_text=True),
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": seed & 0x7FFFFFFF,  # engines differ in how long a seed may be
        }
        if tools:
            request["tools"] = json.loads(tools)
        return request

    def check_model(self) -> None:
        """Ask the engine once which models it serves; an engine that has no such list passes.

        Raises:
            EngineError: it cannot be reached or refuses the key, or it serves other models only.
        """
        from openai import APIStatusError

        path, client = "models", self._client.with_options(max_retries=0, timeout=_CHECK_SECONDS)
        try:
            found = self._request(path, lambda: [model.id for model in client.models.list().data], attempts=1)
        except EngineError as error:
            cause = error.__cause__
            if isinstance(cause, APIStatusError) and cause.status_code not in (401, 403):
                return
            raise
        except (AttributeError, TypeError):  # something else than a list
            return
        if found and self.name not in found:
            raise EngineError(f"{self._base}: serves {', '.join(map(str, found[:5]))}, not {self.name}; name one of them")

    def load_adapter(self, folder: str | Path) -> None:
        """Serve the LoRA adapter in `folder` as this engine's model.

        Needs vLLM, started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; it must see the folder under the same path.
        """
        wanted = {"lora_name": self.name, "lora_path": str(Path(folder).resolve())}
        try:
            self._post("load_lora_adapter", wanted)
        except EngineRefused:  # the name is in use: by the adapter of the step before, or of a run that was killed
            self._post("unload_lora_adapter", {"lora_name": self.name})
            self._post("load_lora_adapter", wanted)

    def _post(self, path: str, body: dict[str, str]) -> None:
        self._request(path, lambda: self._client.post(f"/{path}", body=body, cast_to=str))

    def _answer(self, prompt: Messages, decoding: Decoding, seed: int, tools: str | None) -> Answer:
        request = self._chat(prompt, decoding, seed, tools)
        reply: ChatCompletion = self._request(_CHAT, lambda: self._client.chat.completions.create(**request))
        # The SDK does not check replies: fields may be missing, and an HTML page is returned as a string.
        try:
            choice = reply.choices[0]
            text = choice.message.content
        except (AttributeError, IndexError, TypeError) as error:
            raise EngineError(f"{self._base}/{_CHAT}: the reply has no choices[0].message.content") from error
        if text is not None and not isinstance(text, str):
            raise EngineError(f"{self._base}/{_CHAT}: the reply's content is a {type(text).__name__}, not text")
        tokens = getattr(reply.usage, "completion_tokens", None)
        reason = getattr(choice, "finish_reason", None)
        return Answer(text or "", str(reason or "stop"), tokens if isinstance(tokens, int) else None)

    def _request(self, path: str, send: Callable[[], T], *, attempts: int | None = None) -> T:
        """The reply to a request; the SDK waits and repeats it while the engine is busy.

        Raises:
            EngineRefused: the engine will not serve the request. EngineError: it is busy or cannot be reached.
        """
        from openai import APIConnectionError, APIStatusError

        url, times = f"{self._base}/{path}", f"{attempts or self._attempts} times"
        try:
            return send()
        except APIConnectionError as error:
            cause = error.__cause__ or error
            detail = " ".join(str(cause).split()).replace(self._key, "<key>")
            problem = f"cannot be reached ({type(cause).__name__}: {detail}), {times}"
            raise EngineError(f"{url}: {problem}; {_LATER}") from error
        except APIStatusError as error:
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                delay = error.response.headers.get("retry-after")
                wait = f" and asks to wait (Retry-After: {delay})" if delay else f", {times}"
                raise EngineError(f"{url}: answered {error.status_code}{wait}; {_LATER}") from error
            raise EngineRefused(f"{url}: {_refusal(error)}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise EngineError(f"{url}: answered with something that is not JSON; {_LATER}") from error


class _StreamedAnswer:
    """The answer that the chunks of a stream add up to.

    Args:
        url: for error messages.
        limit: longest text in characters that the request allows.
    """

    def __init__(self, url: str, *, limit: int) -> None:
        self._url = url
        self._limit = limit
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
            raise EngineError(f"{self._url}: the reply is no stream of chat completion chunks; {_LATER}")
        if self._reason is None:
            raise self.broken("no finish_reason")
        return Answer("".join(self._pieces), self._reason, self._tokens)


def _check_url(base_url: str) -> None:
    """Raise EngineError if the URL is not a complete http or https URL."""
    try:
        url = urlsplit(base_url)
        complete = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # the port is not a number, or too large
        complete = False
    if not complete:
        raise EngineError(f"{base_url}: the engine's base URL must be http://host:port/v1 or https://host/v1")


def _refusal(error: APIStatusError) -> str:
    """One line about a request that the engine rejected and would reject again."""
    status = error.status_code
    if status in (401, 403):
        return f"refused the key ({status}); set {KEY_VARIABLES[0]} or {KEY_VARIABLES[1]}"
    found = error.body.get("message", error.body) if isinstance(error.body, dict) else error.body
    hint = "; does the base URL end in /v1, and does the engine serve this model?" if status == 404 else ""
    return f"refused the request ({status}): {' '.join(str(found or '').split())[:200]}{hint}"
