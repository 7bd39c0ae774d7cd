"""Answers from an OpenAI-compatible engine (vLLM, llama.cpp, a hosted API), through the openai SDK."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from palate.errors import EngineError, EngineRefused
from palate.models.generation.completion import Completion, read_completion
from palate.models.generation.decoding import Decoding
from palate.models.generation.streamed import StreamedAnswer
from palate.records import Answer, Messages, as_turns

if TYPE_CHECKING:
    from openai import APIStatusError, DefaultHttpxClient, Stream
    from openai.types.chat import ChatCompletionChunk

T = TypeVar("T")

KEY_VARIABLES = ("PALATE_API_KEY", "OPENAI_API_KEY")
_CHAT = "chat/completions"
_LATER = "run again later; finished work is kept"
_SECRET_LENGTH = 8
"""Keys from this length on are removed from replies; shorter ones are placeholders (`none`, `EMPTY`), also words."""


class Engine:
    """A chat engine at a base URL.

    Args:
        base_url: URL that ends in `/v1`.
        timeout: seconds to wait for one answer.
        attempts: number of times a request is sent if the engine is busy or cannot be reached.
        http_client: for tests.

    The API key, if the engine needs one, is read from the environment (PALATE_API_KEY or OPENAI_API_KEY). It is used in
    requests only and never written to a file; it is removed from messages and from replies that repeat it.

    Attributes:
        base_url: without a slash at its end.
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
        # Slow to import, and most runs need no engine.
        from openai import DefaultHttpxClient, OpenAI

        from palate.models.generation.reply_limits import limit_replies

        self.name = model
        self.identity: str | None = None
        self.base_url = base_url.rstrip("/")
        self._attempts = attempts
        self._workers = workers
        self._key = next((key for name in KEY_VARIABLES if (key := os.environ.get(name, "").strip())), "")
        client = http_client or DefaultHttpxClient(timeout=timeout, follow_redirects=False)
        limit_replies(client, seconds=timeout)
        weakref.finalize(self, client.close)  # idle connections end with the engine
        self._client = OpenAI(
            api_key=self._key or "none",
            base_url=self.base_url,
            timeout=timeout,
            max_retries=attempts - 1,
            http_client=client,
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
        request = {"model": self.name, **self._chat(prompt, decoding, seed, tools)}
        chunks: Stream[ChatCompletionChunk] = self._request(
            _CHAT, lambda: self._client.chat.completions.create(**request, stream=True), self._attempts
        )
        answer = StreamedAnswer(f"{self.base_url}/{_CHAT}", decoding)
        with chunks:
            for chunk in self._read(chunks, answer):
                on_text(answer.add(chunk))
        return answer.finish()

    def _read(self, chunks: Iterable[ChatCompletionChunk], answer: StreamedAnswer) -> Iterator[ChatCompletionChunk]:
        """The chunks; an EngineError if the connection breaks or the engine reports an error between them."""
        from openai import OpenAIError

        try:
            yield from chunks
        except (OpenAIError, ValueError, RecursionError) as error:  # of the JSON parser as in `_request`
            cause = error.__cause__ or error
            detail = self._redacted(" ".join(str(cause).split()))[:200]
            raise answer.broken(f"{type(cause).__name__}: {detail}") from error

    def _chat(self, prompt: Messages, decoding: Decoding, seed: int, tools: str | None) -> dict[str, Any]:
        """The fields of a chat request but for `model`."""
        request: dict[str, Any] = {
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
        try:
            found = [str(model.get("id")) for model in self._models(1)]
        except EngineRefused as error:
            if error.status in (401, 403):
                raise
            return
        if found and self.name not in found:
            names = ", ".join(found[:5])
            raise EngineError(f"{self.base_url}: serves {names}, not {self.name}; name one of them")

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
        self._request(path, lambda: self._client.post(f"/{path}", body=body, cast_to=str), self._attempts)

    def complete(self, request: Mapping[str, Any], *, attempts: int | None = None) -> Completion:
        """The reply to one chat request.

        Args:
            request: `messages` and the other fields of the OpenAI API but for `model`.
            attempts: number of times that it is sent if the engine is busy or cannot be reached; default as given to
                the engine.

        Raises:
            EngineError: the engine cannot be reached, refuses, or its reply is not a chat completion.
        """
        tries = self._attempts if attempts is None else attempts
        chat = self._client.with_options(max_retries=tries - 1).chat.completions.with_raw_response

        def send() -> tuple[Any, int]:
            raw = chat.create(**{"model": self.name, **request})
            return raw.parse(), raw.retries_taken

        reply, retries = self._request(_CHAT, send, tries)
        completion = read_completion(reply, f"{self.base_url}/{_CHAT}", retries=retries)
        return completion.without(self._key) if len(self._key) >= _SECRET_LENGTH else completion

    def model_facts(self) -> dict[str, Any]:
        """What the engine's list of models says about this model; {} if it has no list, or not this model."""
        try:
            listed = self._models(self._attempts)
        except EngineRefused:
            return {}
        return next((model for model in listed if model.get("id") == self.name), {})

    def _models(self, attempts: int) -> list[dict[str, Any]]:
        """The engine's list of models; [] if the reply is none."""
        client = self._client.with_options(max_retries=attempts - 1)
        listed = self._request("models", lambda: client.get("/models", cast_to=object), attempts)
        models = listed.get("data") if isinstance(listed, dict) else None
        return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []

    def close(self) -> None:
        """Closes the connections; requests that are waiting for a reply fail."""
        self._client.close()

    def _answer(self, prompt: Messages, decoding: Decoding, seed: int, tools: str | None) -> Answer:
        reply = self.complete(self._chat(prompt, decoding, seed, tools))
        return Answer(reply.text, reply.finish_reason, reply.completion_tokens)

    def _request(self, path: str, send: Callable[[], T], attempts: int) -> T:
        """The reply to a request; the SDK waits and repeats it while the engine is busy.

        Raises:
            EngineRefused: the engine will not serve the request. EngineError: it is busy or cannot be reached.
        """
        from openai import APIConnectionError, APIStatusError

        from palate.models.generation.reply_limits import ReplyLimit

        url = f"{self.base_url}/{path}"
        try:
            return send()
        except ReplyLimit as error:
            raise EngineError(f"{url}: {error}") from error
        except APIConnectionError as error:
            cause = error.__cause__ or error
            detail = self._redacted(" ".join(str(cause).split()))
            problem = f"cannot be reached ({type(cause).__name__}: {detail}), {attempts} times"
            raise EngineError(f"{url}: {problem}; {_LATER}") from error
        except APIStatusError as error:
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                delay = self._redacted(error.response.headers.get("retry-after", ""))
                wait = f" and asks to wait (Retry-After: {delay})" if delay else f", {attempts} times"
                raise EngineError(f"{url}: answered {error.status_code}{wait}; {_LATER}", error.status_code) from error
            raise EngineRefused(f"{url}: {self._redacted(_refusal(error))}", error.status_code) from error
        except (ValueError, RecursionError) as error:  # of the JSON parser: no JSON, not UTF-8, huge numbers, too deep
            raise EngineError(f"{url}: answered with something that is not JSON; {_LATER}") from error

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "<key>") if self._key else text


def _check_url(base_url: str) -> None:
    """Raise EngineError if the URL is not a complete http or https URL, or has a password in it."""
    try:
        url = urlsplit(base_url)
        complete = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # the port is not a number, or too large
        url, complete = urlsplit(""), False
    if url.username or url.password or url.query:
        # Base URLs stand in votes and messages.
        raise EngineError(
            f"{url.scheme}://…{url.hostname}: a base URL has no user, password or query; "
            f"set {KEY_VARIABLES[0]} or {KEY_VARIABLES[1]} instead"
        )
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
