"""One endpoint of a pool: its load, its health by replies and failures, and its list of models (`/v1/models`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import product
from typing import TYPE_CHECKING, Any

from palate.errors import EngineError, EngineRefused
from palate.models.generation.endpoints.connection import LATER, Connection

if TYPE_CHECKING:
    from openai import OpenAI

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
"""Seconds after the first failure in a row; each further one doubles them."""
_LONGEST_WAIT = 120.0
"""Longest `Retry-After` that is kept to, as the SDK has it for a single endpoint."""

_IDENTIFYING = ("root", "parent", "meta", "identity")
"""Fields that say what a model is; `created` is the time of the request at some engines."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """An endpoint with its load and health.

    Attributes:
        weight: its share of the requests.
        max_in_flight: most requests in flight; `limit` is how many it gets now.
        in_flight, sent, answered: requests in flight, sent, and replies to chat requests.
        failures: in a row; while there are any, it gets one request at a time.
        failed_at, retry_at: of its last failure, and when it is tried again, `time.monotonic()`.
        error: the last one.
        listed: its list of models; None until it was read.
    """

    connection: Connection
    weight: float
    max_in_flight: int
    limit: float
    in_flight: int = 0
    sent: int = 0
    answered: int = 0
    failures: int = 0
    failed_at: float = -1.0
    retry_at: float = 0.0
    error: str = ""
    listed: list[dict[str, Any]] | None = None

    @property
    def load(self) -> tuple[float, float]:
        """Requests in flight relative to the weight, then those that it got in all."""
        return self.in_flight / self.weight, self.sent / self.weight

    def is_free(self, now: float) -> bool:
        """Whether it may get a request."""
        return self.retry_at <= now and self.in_flight < (1 if self.failures else int(self.limit))

    def succeeded(self, began: float) -> bool:
        """A request that began then was answered; False if it says nothing new, as it was in flight at a failure."""
        if began <= self.failed_at:
            return False
        self.failures = 0
        self.limit = min(self.max_in_flight, self.limit + 1 / self.limit)
        return True

    def failed(self, began: float, error: EngineError) -> None:
        """A request that began then has failed; those that were in flight at the last failure count as one."""
        now, pause = time.monotonic(), _retry_after(error)
        if began > self.failed_at:
            self.failures += 1
            self.limit = max(1.0, self.limit / 2)
            self.failed_at = now
            pause = max(pause, min(_FIRST_PAUSE * 2 ** min(self.failures - 1, 20), _LONGEST_PAUSE))
        self.error = str(error).removesuffix(f"; {LATER}")
        self.retry_at = max(self.retry_at, now + pause)


def is_away(error: EngineError) -> bool:
    """Whether an endpoint is busy or not there, whatever is asked."""
    import httpx2

    cause = error.__cause__ and error.__cause__.__cause__
    return error.status in (429, 502, 503, 504) or isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout))


def _retry_after(error: EngineError) -> float:
    """Seconds that the endpoint asks to wait, at most `_LONGEST_WAIT`; 0 if it does not say."""
    response = getattr(error.__cause__, "response", None)
    given = "" if response is None else response.headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, min(seconds, _LONGEST_WAIT))


def read_models(client: OpenAI, _url: str = "") -> list[dict[str, Any]]:
    """The list of models of an endpoint, for `Connection.request`; [] if the reply is none."""
    listed = client.get("/models", cast_to=object)
    models = listed.get("data") if isinstance(listed, dict) else None
    return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []


def identifying_facts(model: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry of a list of models says about the model and would say again after a restart."""
    return {name: model[name] for name in _IDENTIFYING if model.get(name) not in (None, "", {}, [])}


def check_served(model: str, listed: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Compare the lists of endpoints that must serve one model: base URL → list; an empty one says nothing.

    Raises:
        EngineRefused: an endpoint lists other models only, or two say different things of the model.
    """
    found = {url: [entry for entry in models if entry.get("id") == model] for url, models in listed.items()}
    right = next((url for url, entries in found.items() if entries), None)
    wrong = next((url for url, entries in found.items() if listed[url] and not entries), None)
    if wrong is not None:
        names = ", ".join(str(entry.get("id")) for entry in listed[wrong][:5])
        remedy = f", which {right} serves; name endpoints of one model" if right else "; name one of them"
        raise EngineRefused(f"{wrong}: serves {names}, not {model}{remedy}", 404)
    facts = {url: identifying_facts(entries[0]) for url, entries in found.items() if entries}
    first = next(iter(facts), "")
    for url, name in product(facts, _IDENTIFYING):
        ours, theirs = (str(facts[one].get(name, "not given"))[:80] for one in (first, url))
        if ours != theirs:
            problem = f"{first} serves {model} with {name} {ours}, and {url} with {name} {theirs}"
            raise EngineRefused(f"{problem}; name endpoints of one model", 404)
