"""The endpoints of one engine: each request goes to the least busy one, and one that fails is tried again later."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from palate.errors import EngineError, EngineRefused
from palate.models.generation.endpoints.connection import LATER, Connection
from palate.models.generation.endpoints.endpoint import Endpoint, check_served, is_away, read_models

if TYPE_CHECKING:
    from openai import DefaultHttpxClient, OpenAI

T = TypeVar("T")

CHAT = "chat/completions"
PATIENCE = 120.0
"""Seconds that requests wait while no endpoint answers."""

_CHECK_SECONDS = 10.0


def read_endpoints(text: str) -> list[tuple[str, float]]:
    """The base URLs and weights in `URL,URL=2`, with commas; a URL without a weight has 1.

    Raises:
        EngineError: a URL is empty or there twice, or a weight is no number above 0.
    """
    found: dict[str, float] = {}
    parts = text.split(",")
    for number, part in enumerate(parts, 1):
        weighted = None if "?" in part else re.search(r"=([^=/]*)$", part)  # a query has signs of its own
        url = part[: weighted.start() if weighted else None].strip().rstrip("/")
        try:
            weight = float(weighted[1]) if weighted else 1.0
        except ValueError:
            weight = 0.0
        if not url or url in found or not 0 < weight < math.inf:  # the text may have a password in it
            which = f"base URL {number} of {len(parts)}"
            raise EngineError(f"{which}: write each URL once, with commas, and a weight above 0 as URL=2")
        found[url] = weight
    return list(found.items())


class EndpointPool:
    """Sends requests to one or several endpoints that serve the same model.

    A single endpoint is asked again by the SDK. Of several, each request goes to the one with the fewest requests in
    flight relative to its weight. An endpoint that fails gets no requests for 0.5 s, then twice as long after each
    further failure, or for the time of its `Retry-After`; then one request tries it again. Its limit of requests in
    flight is halved, and grows by one for about each `limit` replies (additive increase, multiplicative decrease).

    Args:
        endpoints: as `URL,URL=2`; all must serve `model`.
        in_flight: most requests at once for each endpoint; of several, the weights share out the sum.

    Attributes:
        base_urls: the endpoints with their weights, as `read_endpoints` reads them.
        connections: of the endpoints, in the same order.
    """

    def __init__(
        self, endpoints: str, model: str, *, in_flight: int, timeout: float, http_client: DefaultHttpxClient
    ) -> None:
        named = read_endpoints(endpoints)
        total = sum(weight for _, weight in named)
        self.base_urls = ",".join(url if weight == 1 else f"{url}={weight:g}" for url, weight in named)
        self.max_in_flight = in_flight * len(named)
        self._model = model
        self._endpoints = []
        for url, weight in named:
            most = max(1, round(self.max_in_flight * weight / total))
            connection = Connection(url, timeout=timeout, http_client=http_client)
            self._endpoints.append(Endpoint(connection, weight, most, most))
        self.connections = [endpoint.connection for endpoint in self._endpoints]
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._started = len(named) == 1
        self._down_since = float("inf")
        self._closed = False

    @property
    def answered(self) -> dict[str, int]:
        """Base URL → number of chat requests that it answered."""
        return {endpoint.connection.base_url: endpoint.answered for endpoint in self._endpoints}

    def request(self, path: str, send: Callable[[OpenAI, str], T], attempts: int) -> tuple[T, int]:
        """What `send` makes of an endpoint's reply, and how often the request was sent before; arguments as `reply`."""
        with self.reply(path, send, attempts) as found:
            return found

    @contextmanager
    def reply(self, path: str, send: Callable[[OpenAI, str], T], attempts: int) -> Iterator[tuple[T, int]]:
        """A context for reading a reply: its endpoint is busy until the end, and an EngineError inside is its failure.

        Args:
            send: gets the client and the URL; an EngineError that it raises is a failure of the endpoint too.
            attempts: number of times that it is sent; where an endpoint is busy or away it goes to another one.

        Raises:
            EngineRefused: an endpoint refuses the request, or serves another model.
            EngineError: no endpoint answered within PATIENCE, or the request failed `attempts` times.
        """
        if len(self._endpoints) == 1:
            (only,) = self._endpoints
            yield only.connection.request(path, send, attempts), 0
            with self._changed:
                only.answered += path == CHAT
            return
        self.start()
        sent, tries, end = 0, 0, float("inf")
        while True:
            endpoint, replied = self._acquire(), False
            try:
                with self._used(endpoint):
                    self._read_list(endpoint)
                    reply = endpoint.connection.request(path, send, 1)
                    replied = True
                    yield reply, sent
                    with self._changed:
                        endpoint.answered += path == CHAT
                    return
            except EngineError as error:
                if replied or isinstance(error, EngineRefused):
                    raise
                now, away = time.monotonic(), is_away(error)
                sent, tries, end = sent + 1, tries + (not away), min(end, now + PATIENCE)
                # A request that breaks every endpoint must end, and so must one that alone is answered with 429.
                if tries >= attempts or (now >= end and not self._is_down()):
                    raise

    def start(self) -> None:
        """Read the lists of models of all endpoints, once, and compare them; those that are away are tried later.

        Raises:
            EngineRefused: an endpoint serves another model, or refuses the key.
        """
        with self._starting:
            for endpoint in () if self._started else self._endpoints:
                endpoint.in_flight += 1
                try:
                    with self._used(endpoint):
                        self._read_list(endpoint)
                except EngineRefused:
                    raise
                except EngineError:
                    continue
            self._started = True

    def check_model(self) -> None:
        """Ask each endpoint once which models it serves; one that has no such list passes.

        Raises:
            EngineError: the only one cannot be reached, or one refuses the key or serves other models only.
        """
        if len(self._endpoints) == 1:
            self._read_list(self._endpoints[0])
        else:
            self.start()

    def close(self) -> None:
        """Requests that wait for an endpoint fail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _read_list(self, endpoint: Endpoint) -> None:
        """Read an endpoint's list of models, unless it is known, and compare it with the others'."""
        if endpoint.listed is not None:
            return
        try:
            listed = endpoint.connection.request("models", read_models, 1, seconds=_CHECK_SECONDS)
        except EngineRefused as error:
            if error.status in (401, 403):
                raise
            listed = []
        known = {one.connection.base_url: one.listed for one in self._endpoints if one.listed is not None}
        check_served(self._model, {**known, endpoint.connection.base_url: listed})
        endpoint.listed = listed

    def _acquire(self) -> Endpoint:
        """The endpoint of the next request, once there is one."""
        with self._changed:
            while True:
                now = time.monotonic()
                free = [endpoint for endpoint in self._endpoints if endpoint.is_free(now)]
                if self._closed:
                    raise EngineError(f"{self.base_urls}: closed; {LATER}")
                if free:
                    chosen = min(free, key=lambda endpoint: endpoint.load)
                    chosen.in_flight += 1
                    chosen.sent += 1
                    return chosen
                waits = [endpoint.retry_at - now for endpoint in self._endpoints if endpoint.retry_at > now]
                if self._is_down() and not any(endpoint.in_flight for endpoint in self._endpoints):
                    left = self._down_since + PATIENCE - now
                    if left <= 0:
                        errors = "; ".join(endpoint.error for endpoint in self._endpoints)
                        raise EngineError(f"no endpoint answered within {PATIENCE:g} s: {errors}; {LATER}")
                    waits.append(left)
                self._changed.wait(min(waits, default=None))

    @contextmanager
    def _used(self, endpoint: Endpoint) -> Iterator[None]:
        """A context for one request, whose outcome decides on the endpoint's health and limit."""
        began, failure = time.monotonic(), None
        try:
            yield
        except EngineError as error:
            failure = None if isinstance(error, EngineRefused) else error
            raise
        finally:
            with self._changed:
                endpoint.in_flight -= 1
                if failure is not None:
                    endpoint.failed(began, failure)
                    if self._is_down():
                        self._down_since = min(self._down_since, time.monotonic())
                elif endpoint.succeeded(began):
                    self._down_since = float("inf")
                self._changed.notify_all()

    def _is_down(self) -> bool:
        """Whether no endpoint has answered since its last failure."""
        return all(endpoint.failures for endpoint in self._endpoints)
