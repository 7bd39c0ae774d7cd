"""Answers from an OpenAI-compatible engine (vLLM, llama.cpp, a hosted API), through the openai SDK."""

from __future__ import annotations

import json
import os
import re
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.errors import EngineError, EngineRefused
from palate.models.generation.decoding import Decoding
from palate.models.generation.endpoints.completion import Completion, StreamedAnswer, read_completion
from palate.models.generation.endpoints.connection import Connection
from palate.models.generation.endpoints.endpoint import read_models
from palate.models.generation.endpoints.pool import CHAT, EndpointPool
from palate.records import Answer, Messages, as_turns

if TYPE_CHECKING:
    from openai import DefaultHttpxClient, OpenAI, Stream
    from openai.types.chat import ChatCompletionChunk

_AHEAD = 4
"""Answers that are asked for before the first of them has been given out, as a multiple of the requests in flight."""
_SECRET_LENGTH = 8
"""Keys from this length on are removed from replies; shorter ones are placeholders (`none`, `EMPTY`), also words."""


def _default_timeout() -> float:
    text = os.environ.get("PALATE_ENGINE_TIMEOUT", "300")
    seconds = float(text) if re.fullmatch(r"\d+(\.\d*)?", text.strip()) else 0.0
    if not seconds:
        raise EngineError(f"PALATE_ENGINE_TIMEOUT={text}: write the seconds to wait for one answer, above 0")
    return seconds


class Engine:
    """A chat engine at a base URL, or at several that serve the same model.

    Args:
        base_url: URL that ends in `/v1`; or several, with weights if they are not equal: `URL,URL=2`.
        timeout: seconds to wait for one answer; None for those of PALATE_ENGINE_TIMEOUT, 300 by default.
        attempts: number of times a request is sent if the engine is busy or cannot be reached.
        in_flight: most requests at once for each URL.
        http_client: for tests.

    The API key, if the engine needs one, is read from the environment (PALATE_API_KEY or OPENAI_API_KEY). It is used in
    requests only and never written to a file; it is removed from messages and from replies that repeat it.

    Attributes:
        base_url: without a slash at its end.
        most_in_flight: requests at once for all URLs.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        timeout: float | None = None,
        attempts: int = 7,
        in_flight: int = 8,
        http_client: DefaultHttpxClient | None = None,
    ) -> None:
        # Slow to import, and most runs need no engine.
        from openai import DefaultHttpxClient

        from palate.models.generation.endpoints.reply_limits import limit_replies

        self.name = model
        self.identity: str | None = None
        self._attempts = attempts
        timeout = _default_timeout() if timeout is None else timeout
        client = http_client or DefaultHttpxClient(timeout=timeout, follow_redirects=False)
        limit_replies(client, seconds=timeout)
        weakref.finalize(self, client.close)  # idle connections end with the engine
        self._http = client
        self._pool = EndpointPool(base_url, model, in_flight=in_flight, timeout=timeout, http_client=client)
        self.base_url = self._pool.base_urls
        self.most_in_flight = self._pool.max_in_flight
        self._connection: Connection = self._pool.connections[0]

    @property
    def answered(self) -> dict[str, int]:
        """URL → number of chat requests that it answered."""
        return self._pool.answered

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
        return list(self.answers_in_order(prompts, decoding, seeds, tools=tools))

    def answers_in_order(
        self,
        prompts: Sequence[Messages],
        decoding: Decoding,
        seeds: Sequence[int],
        *,
        tools: Sequence[str | None] | None = None,
    ) -> Iterator[Answer]:
        """As `answers`, each answer as soon as it and those before it are there."""
        waiting = zip(prompts, seeds, tools or [None] * len(prompts))
        with ThreadPoolExecutor(self.most_in_flight) as pool:
            asked = deque[Future[Answer]]()
            try:
                while True:
                    some = islice(waiting, _AHEAD * self.most_in_flight - len(asked))
                    asked.extend(pool.submit(self._answer, prompt, decoding, seed, spec) for prompt, seed, spec in some)
                    if not asked:
                        return
                    yield asked.popleft().result()
            except KeyboardInterrupt:
                self._pool.close()  # requests that wait for an endpoint end; those on their way cannot be ended
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # those on their way end before the `with`

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

        def send(client: OpenAI, url: str) -> tuple[Stream[ChatCompletionChunk], str]:
            return client.chat.completions.create(**request, stream=True), url

        with self._pool.reply(CHAT, send, self._attempts) as ((chunks, url), _), chunks:
            answer = StreamedAnswer(url, decoding)
            for chunk in self._read(chunks, answer):
                on_text(answer.add(chunk))
            return answer.finish()

    def _read(self, chunks: Iterable[ChatCompletionChunk], answer: StreamedAnswer) -> Iterator[ChatCompletionChunk]:
        """The chunks; an EngineError if the connection breaks or the engine reports an error between them."""
        from openai import OpenAIError

        try:
            yield from chunks
        except (OpenAIError, ValueError, RecursionError) as error:  # of the JSON parser as in `Connection.request`
            cause = error.__cause__ or error
            detail = self._connection.redacted(" ".join(str(cause).split()))[:200]
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
        """As `EndpointPool.check_model`."""
        self._pool.check_model()

    def load_adapter(self, folder: str | Path) -> None:
        """Serve the LoRA adapter in `folder` as this engine's model.

        Needs vLLM, started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; it must see the folder under the same path.
        """
        wanted = {"lora_name": self.name, "lora_path": str(Path(folder).resolve())}
        for connection in self._pool.connections:
            try:
                self._post(connection, "load_lora_adapter", wanted)
            except EngineRefused:  # the name is in use: by the adapter of the step before, or of a run that was killed
                self._post(connection, "unload_lora_adapter", {"lora_name": self.name})
                self._post(connection, "load_lora_adapter", wanted)

    def _post(self, connection: Connection, path: str, body: dict[str, str]) -> None:
        connection.request(path, lambda client, _: client.post(f"/{path}", body=body, cast_to=str), self._attempts)

    def complete(self, request: Mapping[str, Any], *, attempts: int | None = None) -> Completion:
        """The reply to one chat request: `messages` and the other fields of the OpenAI API but for `model`.

        Raises:
            EngineError: as in `answers`.
        """

        def send(client: OpenAI, url: str) -> Completion:
            raw = client.chat.completions.with_raw_response.create(**{"model": self.name, **request})
            return read_completion(raw.parse(), url, retries=raw.retries_taken)

        found, sent = self._pool.request(CHAT, send, self._attempts if attempts is None else attempts)
        found, key = replace(found, retries=found.retries + sent), self._connection.key
        return found.without(key) if len(key) >= _SECRET_LENGTH else found

    def model_facts(self) -> dict[str, Any]:
        """What the engine's list of models says about this model; {} if it has no list, or not this model."""
        self._pool.start()
        try:
            listed, _ = self._pool.request("models", read_models, self._attempts)
        except EngineRefused:
            return {}
        return next((model for model in listed if model.get("id") == self.name), {})

    def close(self) -> None:
        """Closes the connections; requests that are waiting for a reply fail."""
        self._pool.close()
        self._http.close()

    def _answer(self, prompt: Messages, decoding: Decoding, seed: int, tools: str | None) -> Answer:
        reply = self.complete(self._chat(prompt, decoding, seed, tools))
        return Answer(reply.text, reply.finish_reason, reply.completion_tokens)
