"""Many chat requests to an engine at once: bounded, in order, within limits; an interruption keeps the replies."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from palate.errors import EngineError, EngineRefused
from palate.feedback.judges.usage import Estimate, UsageMeter
from palate.models.generation.endpoints.completion import TokenChoice
from palate.models.generation.endpoints.engine import Engine
from palate.records import Messages, as_turns

MOST_FAILURES = 20
"""So many failed requests in a row end the run: the endpoint is not there any more."""

_HOPELESS = (401, 402, 403, 404)
"""Refusals that every other request would get too: key, credit, URL or model."""

_GRACE = 10.0
"""Seconds that an interrupted run waits for requests on their way."""

_FIRST_REPLIES = 8
"""So many replies make the second, measured estimate."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request.

    Attributes:
        messages: the conversation.
        max_tokens: of the reply, with its thinking.
        temperature: 0 takes the likeliest token; None leaves it to the endpoint.
        raised: `max_tokens` of a second try if the model used all of the first for thinking; None for no second try.
        more: further fields of the OpenAI API.
        tokens_field: name of the field for `max_tokens`.
    """

    messages: Messages
    max_tokens: int
    temperature: float | None = 0.0
    raised: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    tokens_field: str = "max_tokens"

    @property
    def characters(self) -> int:
        return sum(len(message.text) for message in self.messages)

    def body(self) -> dict[str, Any]:
        temperature = {} if self.temperature is None else {"temperature": self.temperature}
        turns = as_turns(self.messages, arguments_as_text=True)
        return {"messages": turns, self.tokens_field: self.max_tokens, **temperature, **self.more}


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The reply to a request, or why there is none.

    Attributes:
        text: without the thinking.
        finish_reason: `stop`, `length`, or the engine's own word.
        error: why there is no reply; "" if there is one.
        asked: whether the request was sent.
        thinking: whether the model thought before its text, or instead of it.
        max_tokens: of the request that was answered.
        attempts: how often the request was sent.
        url: that the answered request was sent to.
    """

    text: str = ""
    finish_reason: str = ""
    error: str = ""
    asked: bool = True
    thinking: bool = False
    max_tokens: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 1
    model: str = ""
    url: str = ""
    tokens: tuple[TokenChoice, ...] = ()

    @property
    def spent_on_thinking(self) -> bool:
        """Whether the model used all of its tokens without reaching a text."""
        return not self.error and not self.text.strip() and self.finish_reason == "length"


def without_thinking(text: str) -> tuple[str, bool]:
    """The text after `</think>`, and whether there was any thinking; of unfinished thinking, ""."""
    before, end, after = text.rpartition("</think>")
    if end:
        return after.strip(), bool(before)
    return ("", True) if text.lstrip().startswith("<think>") else (text, False)


class ChatClient:
    """Sends chat requests to an engine.

    Args:
        in_flight: most requests at once.
        meter: counts tokens and cost, and has the limits.
        announce: called with the estimate before the first request, and again after the first replies.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        in_flight: int = 8,
        meter: UsageMeter | None = None,
        announce: Callable[[Estimate], None] | None = None,
    ) -> None:
        self.engine = engine
        self.meter = meter or UsageMeter()
        self._in_flight = in_flight
        self._announce = announce

    def ask(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[int, ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """The replies in the order of the requests.

        A request that fails has a reply with its `error`; so has one that was not sent because of a limit.

        Args:
            on_reply: called in this thread with the index and the reply as soon as each arrives, also if the run is
                interrupted afterwards; not for requests that were not sent.

        Raises:
            EngineRefused: the endpoint refuses every request: wrong key, model or URL.
            EngineError: MOST_FAILURES requests in a row failed.
            KeyboardInterrupt: after the replies that arrive within 10 seconds.
        """
        return _Asking(self, requests, on_reply).run(self._in_flight, self._announce)

    def send(self, request: ChatRequest) -> ChatReply:
        """The reply to one request.

        Raises:
            EngineError: there is none.
        """
        found = self.engine.complete(request.body())
        text, thinking = without_thinking(found.text)
        return ChatReply(
            text=text,
            finish_reason=found.finish_reason,
            thinking=thinking or bool(found.reasoning),
            max_tokens=request.max_tokens,
            prompt_tokens=found.prompt_tokens,
            completion_tokens=found.completion_tokens,
            attempts=found.retries + 1,
            model=found.model,
            url=found.url,
            tokens=found.tokens,
        )


_Arrived: TypeAlias = tuple[int, ChatRequest, float, ChatReply | EngineError]
"""Index, request, reserved cost, reply or error."""


class _Asking:
    """The requests of one call of `ask`."""

    def __init__(
        self, client: ChatClient, requests: Sequence[ChatRequest], on_reply: Callable[[int, ChatReply], None] | None
    ) -> None:
        self._client = client
        self._meter = client.meter
        self._requests = requests
        self._on_reply = on_reply
        self._replies: list[ChatReply | None] = [None] * len(requests)
        self._waiting = deque(enumerate(requests))
        self._arrived: queue.SimpleQueue[_Arrived | None] = queue.SimpleQueue()
        self._open = 0
        self._in_a_row = 0
        self._first_error = ""
        self._stopped = ""
        self._fatal: EngineError | None = None
        self._interrupted = False

    def run(self, in_flight: int, announce: Callable[[Estimate], None] | None) -> list[ChatReply]:
        if announce is not None and self._requests:
            announce(self._estimate())
        measure = announce is not None and len(self._requests) > 2 * _FIRST_REPLIES
        try:
            with _first_interrupt(self._interrupt):
                while self._open or (self._waiting and not self._stopped):
                    self._send_more(in_flight)
                    if self._open:
                        self._receive(None)
                    if measure and announce is not None and self._done() == _FIRST_REPLIES:
                        measure = False
                        announce(self._estimate())
            if self._interrupted:  # while the last reply was stored
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            self._keep_arriving()
            raise
        if self._fatal is not None:
            raise self._fatal
        return [reply or ChatReply(error=f"not asked: {self._stopped}", asked=False) for reply in self._replies]

    def _send_more(self, in_flight: int) -> None:
        while self._waiting and not self._stopped and self._open < in_flight:
            index, request = self._waiting[0]
            why = self._meter.refusal(request.characters, request.max_tokens)
            if why is not None:
                if why:
                    self._stopped = why
                return  # else the replies on their way may cost less than they reserve
            self._waiting.popleft()
            reserved = self._meter.sent(request.characters, request.max_tokens)
            self._open += 1
            # Daemons: an interrupted process does not wait for an endpoint that does not answer.
            threading.Thread(target=self._work, args=(index, request, reserved), daemon=True).start()

    def _work(self, index: int, request: ChatRequest, reserved: float) -> None:
        reply: ChatReply | EngineError
        try:
            reply = self._client.send(request)
        except EngineError as error:
            reply = error
        except Exception as error:  # a thread's error would be lost, and `ask` wait for it for ever
            reply = EngineError(f"{self._client.engine.base_url}: {type(error).__name__}: {error}")
        self._arrived.put((index, request, reserved, reply))

    def _settle(self, index: int, request: ChatRequest, reserved: float, reply: ChatReply | EngineError) -> None:
        self._open -= 1
        if isinstance(reply, EngineError):
            self._fail(index, request, reserved, reply)
            return
        self._in_a_row = 0
        self._meter.retries += reply.attempts - 1
        self._meter.received(reserved, request.characters, reply.text, reply.prompt_tokens, reply.completion_tokens)
        if reply.spent_on_thinking and request.raised is not None and not self._stopped:
            again = replace(request, max_tokens=request.raised, raised=None)
            if not self._meter.refusal(again.characters, again.max_tokens):
                self._waiting.appendleft((index, again))
                return
        self._keep(index, reply)

    def _fail(self, index: int, request: ChatRequest, reserved: float, error: EngineError) -> None:
        refused = isinstance(error, EngineRefused)
        self._meter.lost(reserved, request.characters, billed=not refused)
        self._first_error = self._first_error or str(error)
        self._in_a_row += 1
        if isinstance(error, EngineRefused) and error.status in _HOPELESS:
            self._fatal = self._fatal or error
        elif self._in_a_row >= MOST_FAILURES:
            problem = f"{self._in_a_row} requests in a row failed; the first: {self._first_error}"
            self._fatal = self._fatal or EngineError(problem)
        if self._fatal is not None:
            self._stopped = str(self._fatal)
        self._keep(index, ChatReply(error=str(error)))

    def _keep(self, index: int, reply: ChatReply) -> None:
        self._replies[index] = reply
        if self._on_reply is not None:
            self._on_reply(index, reply)

    def _receive(self, timeout: float | None) -> None:
        """Wait for a reply.

        Raises:
            KeyboardInterrupt: after an interruption. queue.Empty: after the timeout.
        """
        arrived = self._arrived.get(timeout=timeout)
        if arrived is not None:
            self._settle(*arrived)
        elif self._interrupted:
            raise KeyboardInterrupt

    def _interrupt(self) -> None:
        """Called between two instructions of this thread, which is woken up if it waits."""
        self._interrupted = True
        self._stopped = "interrupted"
        self._arrived.put(None)

    def _keep_arriving(self) -> None:
        """The replies that arrive soon; a second interruption ends the wait."""
        self._stopped = "interrupted"
        self._interrupted = False
        end = time.monotonic() + _GRACE
        with contextlib.suppress(queue.Empty):
            while self._open:
                self._receive(max(0.0, end - time.monotonic()))
        self._client.engine.close()

    def _done(self) -> int:
        return sum(reply is not None for reply in self._replies)

    def _estimate(self) -> Estimate:
        return self._meter.estimate([(request.characters, request.max_tokens) for request in self._requests])


@contextlib.contextmanager
def _first_interrupt(call: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls `call` instead of raising, so that no reply is lost while it is stored; a second raises.

    Other handlers than Python's own stay as they are.
    """
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return

    def first(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, usual)
        call()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
