"""Continuous batching: answers to prompts that arrive at any time, which one thread writes together.

Every step adds a token to each answer in the batch. A new prompt is read in chunks between the steps, joins the batch
when it is read, and leaves it with its last token (Orca, OSDI 2022; chunks as in Sarathi, 2308.16369).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from palate.errors import DataError, EngineError
from palate.models.generation.decoding import Decoding
from palate.models.generation.local.decode import draw_tokens, prepared_decoder, uniform_numbers
from palate.models.generation.local.generate import refuse_empty
from palate.models.generation.local.request import GenerationRequest, NewToken
from palate.models.generation.local.running_batch import Chunk, RunningBatch, TransformersBatch, llama_batch_of
from palate.models.precision import Precision
from palate.models.probe.limits import check_sequences, trained_length
from palate.models.upstream import base_of, first_line

_log = logging.getLogger(__name__)

# Tokens of prompts that are read in one step on a CPU, with running answers and without any. More at a time delay the
# first tokens of short prompts and save nothing.
_CHUNK = 128
_CHUNK_ALONE = 256
# A GPU is not busy with so few.
_GPU_CHUNKS = 8
# Tokens of the key/value cache for each row, by default.
_ROW_TOKENS = 2048


class QueueFull(EngineError):  # noqa: N818 - says how it is
    """Too many prompts are waiting; try again later."""


class Batcher:
    """Writes the answers to prompts that arrive at any time, in one thread. A context manager.

    Each answer equals that of `generate` with its seed, whatever else is in the batch (except for rounding). Prompts
    are taken in the order in which they arrive. No one else may use the model until the batcher is closed.

    Args:
        model: a causal LM, with or without the scoring forward, possibly under PEFT.
        stop_ids: token ids that end an answer.
        max_rows: answers written at a time.
        max_tokens_in_flight: size of the key/value cache in tokens, with padding; by default 2,048 for each row, but at
            least the longest sequence of the model.
        max_waiting: prompts that may wait for a row.
    """

    def __init__(
        self,
        model: Any,
        *,
        stop_ids: Sequence[int],
        precision: Precision,
        max_rows: int = 16,
        max_tokens_in_flight: int | None = None,
        max_waiting: int = 256,
    ) -> None:
        self._model, self._precision = model, precision
        self._device = next(model.parameters()).device
        self._stop_ids = frozenset(stop_ids)
        self._max_waiting = max_waiting
        self._limit = max_tokens_in_flight or max(max_rows * _ROW_TOKENS, trained_length(base_of(model)) or 0)
        self._changed = threading.Condition()
        self._waiting: deque[GenerationRequest] = deque()
        self._reading: dict[int, GenerationRequest] = {}
        self._running: dict[int, GenerationRequest] = {}
        self._asked = 0
        self._ended: str | None = None  # why no more answers are written
        self._opened = contextlib.ExitStack()
        prepared = prepared_decoder(model, precision, max_rows, llama_batch_of, TransformersBatch)
        self._rows: RunningBatch = self._opened.enter_context(prepared)
        self._max_rows = max_rows if self._rows.can_join else 1
        if self._max_rows < max_rows:
            _log.warning("the answers of this kind of model cannot share a batch: they are written one after another")
        self._thread = threading.Thread(target=self._run, name="palate-batcher", daemon=True)
        self._thread.start()

    def submit(
        self,
        prompt: Sequence[int],
        decoding: Decoding,
        seed: int,
        on_token: Callable[[NewToken], None],
        *,
        top_logprobs: int = 0,
    ) -> GenerationRequest:
        """Ask for an answer.

        Args:
            prompt: token ids, at least one.
            decoding: its own `seed` is not used.
            on_token: called from the batcher's thread with each token; the last one has a finish reason. It must
                return soon: every answer waits for it.
            top_logprobs: number of likeliest tokens that each token is reported with.

        Raises:
            QueueFull: too many prompts are waiting.
            DataError: the prompt is empty or too long, or has token ids outside the model's vocabulary.
            EngineError: the batcher is closed or has failed.
        """
        refuse_empty([prompt])
        check_sequences(self._model, [("the prompt", prompt)], new_tokens=decoding.max_new_tokens)
        uniform = uniform_numbers(decoding, seed) if decoding.temperature else torch.empty(0)
        answer = GenerationRequest(prompt, decoding, on_token, top_logprobs, uniform)
        if self._rows.cache_tokens([answer.max_length]) > self._limit:
            raise DataError(
                f"the prompt: {len(prompt)} tokens and {decoding.max_new_tokens} new ones are too many, the cache "
                f"holds {self._limit}; ask for fewer new tokens"
            )
        with self._changed:
            if self._ended is not None:
                raise EngineError(self._ended)
            if len(self._waiting) >= self._max_waiting:
                raise QueueFull(f"{len(self._waiting)} prompts are waiting for an answer; try again later")
            answer.number = self._asked = self._asked + 1
            self._waiting.append(answer)
            self._changed.notify()
        return answer

    def close(self) -> None:
        """End all answers with `error`, and leave the model as it was."""
        self._end("the model is being closed")
        self._thread.join()
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, reason: str) -> None:
        with self._changed:
            self._ended = self._ended or reason
            self._changed.notify()

    def _run(self) -> None:
        """The thread: steps until the end, and then ends every answer that is not complete with `error`."""
        reason = "the model failed"
        try:
            with torch.no_grad(), self._precision.context(self._device):
                while self._next_step():
                    self._step()
        except Exception as error:  # out of memory, or whatever a model's own code raises
            _log.exception("the batch failed")
            reason = f"the model failed: {first_line(error)}"
        finally:
            self._end(reason)
            for answer in (*self._running.values(), *self._reading.values(), *self._waiting):
                answer.send(NewToken(None, finish_reason="error", error=self._ended))

    def _next_step(self) -> bool:
        """Wait for something to do, and take prompts that fit; False at the end."""
        with self._changed:
            while not (self._waiting or self._reading or self._running or self._ended):
                self._changed.wait()
            if self._ended:
                return False
            cancelled = [answer for answer in self._waiting if answer.cancelled]
            self._waiting = deque(answer for answer in self._waiting if not answer.cancelled)
        for answers in (self._reading, self._running):
            cancelled += [answers.pop(number) for number, one in tuple(answers.items()) if one.cancelled]
        self._rows.remove([answer.number for answer in cancelled])
        for answer in cancelled:
            answer.send(NewToken(None, finish_reason="cancelled"))
        with self._changed:
            while self._waiting and self._fits(self._waiting[0]):
                answer = self._waiting.popleft()
                self._reading[answer.number] = answer
        return True

    def _fits(self, answer: GenerationRequest) -> bool:
        lengths = [one.max_length for one in (*self._running.values(), *self._reading.values(), answer)]
        return len(lengths) <= self._max_rows and self._rows.cache_tokens(lengths) <= self._limit

    def _step(self) -> None:
        """One more token of each answer, and the next chunks of prompts."""
        chunks = list(self._chunks())
        if not chunks and not self._running:
            return
        numbers, logits = self._rows.step({number: one.newest for number, one in self._running.items()}, chunks)
        for chunk in chunks:
            self._reading[chunk.row].read += len(chunk.ids)
            if chunk.last:
                self._running[chunk.row] = self._reading.pop(chunk.row)
        if numbers:
            self._add([self._running[number] for number in numbers], logits)

    def _chunks(self) -> Iterator[Chunk]:
        """Of the prompts in the order of their arrival: as many tokens as one step may read."""
        left = (_CHUNK if self._running else _CHUNK_ALONE) * (_GPU_CHUNKS if self._device.type != "cpu" else 1)
        for answer in self._reading.values():
            prompt, read = answer.prompt, answer.read
            ids = prompt[read : read + left] if self._rows.can_join else prompt
            left -= len(ids)
            yield Chunk(answer.number, ids, len(prompt), read + len(ids) == len(prompt))
            if left <= 0:
                return

    def _add(self, answers: Sequence[GenerationRequest], logits: Tensor) -> None:
        """Choose the next token of each answer by logits [answers, V]; those that are complete leave."""
        tokens = _choose(answers, logits)
        totals = logits.logsumexp(-1)
        logprobs = (logits.gather(1, tokens[:, None]).squeeze(1) - totals).tolist()
        complete = []
        for place, (answer, token) in enumerate(zip(answers, tokens.tolist(), strict=True)):
            answer.newest = token
            answer.written += 1
            reason = "length" if answer.written == answer.decoding.max_new_tokens else None
            reason = "stop" if token in self._stop_ids else reason
            if reason is not None:
                complete.append(answer.number)
                del self._running[answer.number]
            answer.send(NewToken(token, logprobs[place], _top(answer, logits[place], totals[place]), reason))
        if complete:
            self._rows.remove(complete)


def _choose(answers: Sequence[GenerationRequest], logits: Tensor) -> Tensor:
    """The next tokens int64 [answers], as `generate` chooses them; answers with equal settings are drawn together."""
    tokens = torch.empty(len(answers), dtype=torch.long, device=logits.device)
    alike: dict[tuple[float, float], list[int]] = {}
    for place, answer in enumerate(answers):
        alike.setdefault((answer.decoding.temperature, answer.decoding.top_p), []).append(place)
    for (temperature, top_p), places in alike.items():
        scores = logits[places]
        if not temperature:
            tokens[places] = scores.argmax(-1)
            continue
        uniform = torch.stack([answers[place].uniform[answers[place].written] for place in places]).to(logits.device)
        tokens[places] = draw_tokens(scores / temperature, uniform[:, None], top_p).squeeze(-1)
    return tokens


def _top(answer: GenerationRequest, logits: Tensor, total: Tensor) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens with their log-probabilities, of logits [V] and their logsumexp []."""
    if answer.top_logprobs <= 0:
        return ()
    values, tokens = logits.topk(min(answer.top_logprobs, len(logits)))
    return tuple(zip(tokens.tolist(), (values - total).tolist(), strict=True))
