"""Two models that answer the same prompt at the same time; their answers are streamed."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from palate.errors import EngineError, PalateError, UsageError
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.records import Answer, Messages
from palate.store.texts import is_storable

_log = logging.getLogger(__name__)

# Each answer takes a thread while it is written.
_MOST_ANSWERS = 64
_CLOSING_SECONDS = 5.0
# Reasons for an end that make an answer unfit for a comparison.
_FAILED_REASONS = frozenset({"content_filter", "tool_calls", "function_call", "error"})

Side: TypeAlias = Literal[0, 1]
"""Of the two models, in the order in which they were named."""


class AnswerStream(Protocol):
    """A model that streams its answer: one in this process, or one of an engine.

    Attributes:
        name: the name that the user gave.
        identity: content hash of its weights, if known.
    """

    name: str
    identity: str | None

    def stream(self, prompt: Messages, decoding: Decoding, seed: int, on_text: Callable[[str], None]) -> Answer:
        """The whole answer; `on_text` gets each piece of its text, some empty, and may raise to end it."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """New text of an answer."""

    side: Side
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer that is complete.

    Attributes:
        side: whose answer it is.
        answer: with its whole text, which is the joined pieces.
        seed: it was sampled with.
    """

    side: Side
    answer: Answer
    seed: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An answer that broke off, was refused or is empty. Its text is never compared or stored.

    Attributes:
        side: whose answer it is.
        reason: one line without the name of the model.
    """

    side: Side
    reason: str


ChatEvent: TypeAlias = Piece | Ended | Failed


def split_model(spec: str, base_url: str | None) -> tuple[str, str | None]:
    """The model and the engine's URL of `openai:MODEL@URL`; of any other name, the name and `base_url`.

    Raises:
        UsageError: the model or the URL is missing.
    """
    if not spec.startswith("openai:"):
        return spec, base_url
    name = spec.removeprefix("openai:")
    model, _, url = name.rpartition("@")
    if "://" not in url:
        model, url = name, base_url or ""
    if not model or not url:
        raise UsageError(f"{spec}: write openai:MODEL@http://host:port/v1, or openai:MODEL with --base-url")
    return model, url


class Chat:
    """Two loaded models with the decoding of their answers.

    Attributes:
        models: the two models; may be one object twice.
        decoding: of every answer; its seed is the base of all seeds.
        same: whether both are the same weights, so that their comparison says nothing about models.
    """

    def __init__(self, first: AnswerStream, second: AnswerStream, decoding: Decoding) -> None:
        """Raises UsageError if the answers to every prompt would be equal."""
        self.models = (first, second)
        self.decoding = decoding
        self.same = first is second or (first.identity is not None and first.identity == second.identity)
        if self.same and decoding.temperature == 0:
            raise UsageError(
                f"{first.name} and {second.name} are the same model, which at --temperature 0 gives equal answers; "
                "raise the temperature or name another model"
            )
        self._free = threading.BoundedSemaphore(_MOST_ANSWERS // 2)
        self._running: weakref.WeakSet[TwoAnswers] = weakref.WeakSet()
        self._of_person: weakref.WeakValueDictionary[int, TwoAnswers] = weakref.WeakValueDictionary()

    def ask(
        self, prompt: Messages, key: str, on_event: Callable[[ChatEvent], None], *, person: int | None = None
    ) -> TwoAnswers:
        """Start both answers; `on_event` is called from their threads. A person has one exchange at a time.

        Args:
            key: names this exchange; with the same key, prompt and models both answers are the same again.
            on_event: gets pieces, and of each side an `Ended` or `Failed` as the last.
            person: who asks; an earlier exchange of the same person that is still being written fails.

        Raises:
            UsageError: too many answers are being written.
        """
        if not self._free.acquire(blocking=False):
            raise UsageError("Too many prompts are being answered; try again in a moment.")
        exchange = TwoAnswers(self, prompt, key, on_event)
        if person is not None:
            if (earlier := self._of_person.get(person)) is not None:
                earlier.cancel("you asked another prompt meanwhile")
            self._of_person[person] = exchange
        self._running.add(exchange)
        exchange.start(self._free.release)
        return exchange

    def cancel(self, reason: str) -> None:
        """Make all answers that are being written fail for this reason."""
        for exchange in tuple(self._running):
            exchange.cancel(reason)

    def close(self) -> None:
        """End all answers. A silent engine is waited for a few seconds only; its thread ends with the process."""
        exchanges = tuple(self._running)
        for exchange in exchanges:
            exchange.cancel()
        end = time.monotonic() + _CLOSING_SECONDS
        for exchange in exchanges:
            exchange.join(end - time.monotonic())


class TwoAnswers:
    """One prompt that both models answer."""

    def __init__(self, chat: Chat, prompt: Messages, key: str, on_event: Callable[[ChatEvent], None]) -> None:
        self._chat, self._prompt, self._key, self._on_event = chat, prompt, key, on_event
        self._cancelled = threading.Event()
        self._threads: tuple[threading.Thread, ...] = ()

    def start(self, on_end: Callable[[], None]) -> None:
        """Begin both answers in threads; `on_end` is called once both have ended."""
        sides: tuple[Side, Side] = (0, 1)
        left = iter((lambda: None, on_end))  # of two threads the second to end calls it

        def run(side: Side) -> None:
            try:
                self.answer(side)
            finally:
                next(left)()

        self._threads = tuple(
            threading.Thread(target=run, args=(side,), name="palate-chat", daemon=True) for side in sides
        )
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for both answers, at most this long."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def cancel(self, reason: str = "") -> None:
        """End both answers at their next token; with a reason, both fail for it now."""
        self._cancelled.set()
        if reason:
            self._on_event(Failed(0, reason))
            self._on_event(Failed(1, reason))

    def answer(self, side: Side) -> None:
        """Run one side to its end, in the thread that calls this."""
        model, decoding = self._chat.models[side], self._chat.decoding
        seed = sampling_seed(decoding.seed, self._key, side)

        def on_text(text: str) -> None:
            if self._cancelled.is_set():
                raise CancelledError
            if text:
                self._on_event(Piece(side, text))

        try:
            on_text("")
            answer = model.stream(self._prompt, decoding, seed, on_text)
            end: ChatEvent = Ended(side, answer, seed)
            if reason := _unfit(answer):
                end = Failed(side, reason)
        except CancelledError:
            return
        except PalateError as error:
            _log.warning("%s: %s", model.name, error)
            end = Failed(side, _blind_reason(error))
        except Exception:  # a bug or a model out of memory must end this answer, not the page
            _log.exception("%s: the answer failed", model.name)
            end = Failed(side, "the model failed; the log has the reason")
        if not self._cancelled.is_set():
            self._on_event(end)


def _unfit(answer: Answer) -> str:
    """Why a complete answer cannot be compared; "" if it can."""
    if answer.finish_reason in _FAILED_REASONS:
        return f"the engine ended the answer with {answer.finish_reason}"
    if not is_storable(answer.text):
        return "the answer has a character that cannot be stored (NUL or half a surrogate pair)"
    if not answer.text.strip():
        cut = " before the limit of tokens" if answer.finish_reason == "length" else ""
        return f"the model wrote no text{cut}"
    return ""


def _blind_reason(error: PalateError) -> str:
    """The kind of failure; the message itself names the model, and the person is to compare without knowing it."""
    if isinstance(error, EngineError):
        return "the engine did not give a complete answer; the log has the reason"
    return "the model cannot answer this prompt; the log has the reason"
