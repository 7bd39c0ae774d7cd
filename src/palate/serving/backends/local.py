"""A model in this process, whose answers are written together in one batch. Imports torch."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from palate.errors import EngineError
from palate.evaluation.subject import Subject, model_spec
from palate.models.generation.decoding import Decoding
from palate.models.generation.local.continuous import Batcher, QueueFull
from palate.models.generation.local.request import GenerationRequest, NewToken
from palate.models.generation.local.stream import TextPieces
from palate.models.precision import default_device, resolve
from palate.models.probe.limits import trained_length
from palate.models.upstream import base_of
from palate.records import Message
from palate.serving.backends.base import Endpoint
from palate.serving.backends.local_request import LocalRequest, read_request, text_of
from palate.serving.gather import Gathered
from palate.serving.problems import ApiError, Busy
from palate.serving.settings import ServedModelFields
from palate.text.template import Template

_LOG = logging.getLogger("palate.serving")

_UNREAD = 1024
"""Tokens of a request that its client has not read; with more, the client is taken for gone."""
_LEAST_LOGPROB = -9999.0  # as other engines write minus infinity


class Local:
    """A model in this process.

    Args:
        version: name of the version.
        template: its chat template and tokenizer.
        batch: writes its answers.
        content_hash: of its weights.
        max_tokens: longest answer.
        context: tokens that the model was trained to read; None if it does not say.
    """

    def __init__(
        self,
        version: str,
        template: Template,
        batch: Batcher,
        *,
        content_hash: str | None,
        max_tokens: int,
        context: int | None,
    ) -> None:
        self.version = version
        self.content_hash = content_hash
        self.template_hash: str | None = hashlib.sha256(str(template.tokenizer.chat_template).encode()).hexdigest()
        self._template = template
        self._batch = batch
        self._max_tokens = max_tokens
        self._context = context
        self._failed: str | None = None

    async def events(self, endpoint: Endpoint, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """See Backend."""
        asked = await asyncio.to_thread(
            read_request, endpoint, body, self._template, max_tokens=self._max_tokens, context=self._context
        )
        head = _head(asked, self.version)
        rows = [_Row(index, asked, self._template) for index in range(len(asked.rows()))]
        tokens = _Tokens(asyncio.get_running_loop(), _UNREAD * len(rows))
        try:
            for row, (prompt, seed) in zip(rows, asked.rows(), strict=True):
                tokens.requests.append(self._submit(asked, prompt, seed, partial(tokens.put, row.index)))
            if asked.chat:
                for row in rows:
                    yield {**head, "choices": [row.choice({"role": "assistant", "content": ""})]}
            while not all(row.ended for row in rows):
                index, token = await tokens.get()
                row = rows[index]
                if row.ended:
                    continue
                if token.finish_reason in ("error", "cancelled"):
                    raise self._error(token)
                if (choice := row.add(token)) is not None:
                    yield {**head, "choices": [choice]}
                if row.ended:
                    tokens.requests[index].cancel()
        finally:
            for request in tokens.requests:
                request.cancel()
        prompts, written = sum(map(len, asked.prompts)), sum(row.tokens for row in rows)
        usage = {"prompt_tokens": prompts, "completion_tokens": written, "total_tokens": prompts + written}
        yield {**head, "choices": [], "usage": usage}

    def _submit(
        self, asked: LocalRequest, prompt: Any, seed: int, put: Callable[[NewToken], None]
    ) -> GenerationRequest:
        try:
            return self._batch.submit(prompt, asked.decoding, seed, put, top_logprobs=asked.logprobs or 0)
        except QueueFull as error:
            raise Busy(f"{self.version}: {error}") from error
        except EngineError as error:
            self._failed = str(error)
            raise ApiError(503, f"{self.version}: {error}", code="model_unavailable") from error

    def _error(self, token: NewToken) -> ApiError:
        self._failed = token.error
        _LOG.error("%s: %s", self.version, token.error or token.finish_reason)
        return ApiError(503, f"{self.version} broke off: {token.error or 'it was closed'}", code="model_unavailable")

    async def reply(self, endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
        """See Backend."""
        gathered = Gathered()
        async with aclosing(self.events(endpoint, body)) as chunks:
            async for chunk in chunks:
                gathered.add(chunk)
        return gathered.whole(chat=endpoint == "chat/completions")

    async def check(self) -> None:
        """See Backend."""
        if self._failed is not None:
            raise ApiError(503, f"{self.version}: {self._failed}", code="model_unavailable")

    async def close(self) -> None:
        """See Backend."""
        await asyncio.to_thread(self._batch.close)


@dataclass(eq=False, slots=True)
class _Tokens:
    """Tokens on their way from the batch's thread to the event loop."""

    loop: asyncio.AbstractEventLoop
    most: int
    requests: list[GenerationRequest] = field(default_factory=list)
    queue: asyncio.Queue[tuple[int, NewToken]] = field(default_factory=asyncio.Queue)

    def put(self, index: int, token: NewToken) -> None:
        """Called in the batch's thread."""
        with suppress(RuntimeError):  # the loop is closed: the server has stopped
            self.loop.call_soon_threadsafe(self._put, index, token)

    def _put(self, index: int, token: NewToken) -> None:
        if self.queue.qsize() >= self.most:
            for request in self.requests:
                request.cancel()
            return
        self.queue.put_nowait((index, token))

    async def get(self) -> tuple[int, NewToken]:
        """The next token; raises ApiError if the client has read too slowly."""
        if self.queue.qsize() >= self.most:
            raise ApiError(408, "the client reads too slowly", code="client_too_slow")
        return await self.queue.get()


class _Row:
    """One answer on its way from tokens to text."""

    def __init__(self, index: int, asked: LocalRequest, template: Template) -> None:
        self.index = index
        self.tokens = 0
        self.ended = False
        self._asked = asked
        self._template = template
        decode = template.decode if asked.chat else partial(text_of, template)
        self._pieces = TextPieces(decode, template.end_of_turn if asked.chat else "", asked.stops)
        self._logprobs: list[NewToken] = []
        self._offset = 0

    def add(self, token: NewToken) -> dict[str, Any] | None:
        """The choice of a chunk after one more token; None if its text is not settled yet."""
        self.tokens += 1
        assert token.id is not None
        text = self._pieces.add(token.id)
        if token.finish_reason is not None:
            text += self._pieces.rest()
        reason = "stop" if self._pieces.stopped else token.finish_reason
        self.ended = reason is not None
        if self._asked.logprobs is not None and token.id not in self._template.stop_ids:
            self._logprobs.append(token)
        if not text and not self.ended:
            return None
        return self.choice({"content": text} if text else {}, text, reason)

    def choice(self, delta: dict[str, Any], text: str = "", reason: str | None = None) -> dict[str, Any]:
        said = {"delta": delta} if self._asked.chat else {"text": text}
        made = {"index": self.index, **said, "logprobs": None, "finish_reason": reason}
        if self._logprobs:
            made["logprobs"] = self._chat_logprobs() if self._asked.chat else self._text_logprobs()
            self._logprobs = []
        return made

    def _chat_logprobs(self) -> dict[str, Any]:
        content = []
        for token in self._logprobs:
            assert token.id is not None
            top = [self._entry(id, logprob) for id, logprob in token.top]
            content.append({**self._entry(token.id, token.logprob), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def _entry(self, id: int, logprob: float | None) -> dict[str, Any]:
        text = self._token(id)
        # A part of a character has no text of its own.
        found = None if "\ufffd" in text else list(text.encode())
        return {"token": text, "logprob": _bounded(logprob), "bytes": found}

    def _text_logprobs(self) -> dict[str, Any]:
        texts = [self._token(token.id or 0) for token in self._logprobs]
        offsets = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [_bounded(token.logprob) for token in self._logprobs],
            "top_logprobs": [
                {self._token(id): _bounded(logprob) for id, logprob in token.top} for token in self._logprobs
            ],
            "text_offset": offsets,
        }

    def _token(self, id: int) -> str:
        text: str = self._template.tokenizer.decode([id])
        return text


def _head(asked: LocalRequest, version: str) -> dict[str, Any]:
    kind, prefix = ("chat.completion.chunk", "chatcmpl") if asked.chat else ("text_completion", "cmpl")
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": version}


def _bounded(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, _LEAST_LOGPROB)


def load_local(name: str | Path, fields: ServedModelFields, *, max_tokens: int, version: str | None = None) -> Local:
    """Load a model and let it answer once, so that one that cannot is refused before anybody asks it.

    Args:
        name: of a run, checkpoint, folder or hub id.
        fields: its settings.
        max_tokens: longest answer.
        version: its name in the registry.

    Raises:
        ModelError, ArtifactError: it cannot be loaded.
    """

    device = default_device()
    spec = model_spec(str(name), template=fields.template)
    subject = Subject(spec, resolve(fields.precision, device), device)
    subject.answers([(Message("user", "Hello"),)], Decoding(max_new_tokens=1))
    batch = Batcher(
        subject.model, stop_ids=subject.template.stop_ids, precision=subject.precision, max_rows=fields.max_rows
    )
    return Local(
        version or spec.name,
        subject.template,
        batch,
        content_hash=subject.identity,
        max_tokens=max_tokens,
        context=trained_length(base_of(subject.model)),
    )
