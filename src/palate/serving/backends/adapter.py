"""A version of the registry as a LoRA adapter at an engine: loaded under a name of its own, and compared before use."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2

from palate.errors import EngineError, EngineRefused
from palate.serving.backends.base import Endpoint
from palate.serving.backends.upstream import Upstream
from palate.serving.problems import ApiError
from palate.serving.settings import ModelFields

if TYPE_CHECKING:
    from palate.registry import Version

_LOG = logging.getLogger("palate.serving")

_DIGITS = 16
_FORMS: tuple[dict[str, Any], ...] = ({"echo": True, "logprobs": 1}, {"prompt_logprobs": 1})
"""How an engine is asked for log-probabilities of the prompt: as the OpenAI API, and as vLLM's own parameter."""
_TELLS = 4.0
"""Two versions can be told apart if they are so many times farther from each other than the engine's rounding."""


@dataclass(slots=True)
class Uses:
    """How often this process uses each adapter (engine, name). One is unloaded only after its last use."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


class EngineAdapter(Upstream):
    """An adapter at an engine.

    Args:
        fields: with `upstream`.
        version: an adapter of the registry, with probes.
        others: log-probabilities of the probes by what an engine could serve instead.
        uses: shared by all adapters of the gateway.
        transport: for tests.
    """

    def __init__(
        self,
        fields: ModelFields,
        version: Version,
        others: Mapping[str, Sequence[float]],
        uses: Uses,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(version.name, fields, transport=transport)
        self.content_hash = version.content_hash
        # The name has the content's hash, so an engine never has other weights, or a cache of theirs, under it.
        self._model = f"palate-{version.content_hash[:_DIGITS]}"
        root = fields.adapter_root
        self._path = str(version.folder) if root is None else f"{root.rstrip('/')}/{version.folder.name}"
        self._probes = version.lineage["probes"]
        self._others = others
        self._uses = uses
        self._placed = False
        self._placing = asyncio.Lock()
        self._times = 0

    async def events(self, endpoint: Endpoint, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """See Backend."""
        for last in (False, True):
            begun, times = False, self._times
            try:
                async with aclosing(super().events(endpoint, body)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield {**chunk, "model": self.version}
                return
            except ApiError as error:
                if begun or last or error.status != 404:
                    raise
            await self._place_again(times)

    async def reply(self, endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
        """See Backend."""
        times = self._times
        try:
            return {**await super().reply(endpoint, body), "model": self.version}
        except ApiError as error:
            if error.status != 404:
                raise
        await self._place_again(times)
        return {**await super().reply(endpoint, body), "model": self.version}

    async def close(self) -> None:
        """See Backend."""
        await asyncio.to_thread(self._release)
        await super().close()

    def place(self) -> None:
        """Load it into the engine, and compare the engine's log-probabilities with the version's own. Blocks.

        Raises:
            EngineError: the engine does not answer.
            EngineRefused: it does not load adapters, or answers with something else than this version.
        """
        with self._sync() as client:
            try:
                with self._uses.lock:
                    self._load(client)
                    self._uses.counts[self._url, self._model] += not self._placed
                    self._placed = True
                self._compare([value for probe in self._probes for value in self._logps(client, probe["ids"])])
            except (EngineError, ApiError) as error:
                self._release()
                if isinstance(error, ApiError):
                    raise EngineError(error.message, error.status) from error
                raise

    async def _place_again(self, times: int) -> None:
        """Load it again: the engine was started anew. Of several requests that find it missing, one does it."""
        async with self._placing:
            if self._times != times:
                return
            try:
                await asyncio.to_thread(self.place)
            except EngineError as error:
                _LOG.error("%s: %s", self.version, error)
                raise self._broken("it has lost the adapter, and did not take it again") from error
            self._times += 1
            _LOG.warning("%s: the engine had lost the adapter, and has loaded it again", self.version)

    def _load(self, client: httpx2.Client) -> None:
        if self._has(client):
            return
        try:
            self._ask(client, "load_lora_adapter", {"lora_name": self._model, "lora_path": self._path})
        except ApiError as error:
            if error.code in ("upstream_unreachable", "upstream_timeout"):
                raise
            if not self._has(client):  # another gateway may have been quicker
                raise EngineRefused(
                    f"{self._url}: the engine does not load the adapter {self._path} ({error.message}); start vLLM "
                    "with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and name the folder as it sees it "
                    "(adapter_root)",
                    error.status,
                ) from error

    def _release(self) -> None:
        """Unload it, if nothing else of this process uses it."""
        with self._uses.lock:
            if not self._placed:
                return
            self._placed = False
            self._uses.counts[self._url, self._model] -= 1
            if self._uses.counts[self._url, self._model]:
                return
            try:
                with self._sync() as client:
                    self._ask(client, "unload_lora_adapter", {"lora_name": self._model})
            except ApiError as error:
                _LOG.warning("%s: %s stays loaded at the engine: %s", self.version, self._model, error.message)

    def _sync(self) -> httpx2.Client:
        limits = httpx2.Timeout(self._fields.first_byte_seconds, connect=self._fields.connect_seconds)
        return httpx2.Client(headers=dict(self._client.headers), timeout=limits)

    def _ask(self, client: httpx2.Client, path: str, body: dict[str, Any] | None = None) -> bytes:
        with self._waiting():
            response = client.request("GET" if body is None else "POST", f"{self._url}/{path}", json=body)
        if response.status_code >= 300:
            raise self._refused(response, response.text)
        return response.content

    def _has(self, client: httpx2.Client) -> bool:
        listed = self._json(self._ask(client, "models")).get("data")
        return isinstance(listed, list) and any(
            isinstance(one, dict) and one.get("id") == self._model for one in listed
        )

    def _logps(self, client: httpx2.Client, ids: list[int]) -> list[float]:
        """The engine's log-probabilities of all tokens but the first."""
        asked = {"model": self._model, "prompt": ids, "max_tokens": 1, "temperature": 0.0}
        for form in _FORMS:
            try:
                reply = self._json(self._ask(client, "completions", {**asked, **form}))
            except ApiError as error:
                if error.status not in (400, 422):
                    raise
                continue
            found = _prompt_logps(reply, ids)
            if found is not None:
                return found
        raise EngineRefused(
            f"{self._url}: the engine gives no log-probabilities of a prompt (echo, prompt_logprobs), so {self.version} "
            "cannot be compared with what it serves"
        )

    def _compare(self, engine: Sequence[float]) -> None:
        own = [value for probe in self._probes for value in probe["logps"]]
        differences = [abs(a - b) for a, b in zip(engine, own, strict=True)]
        mean, most = sum(differences) / len(own), max(differences)
        served = next((name for name, other in self._others.items() if _is_other(engine, own, other)), None)
        if served is None and mean <= self._fields.probe_mean and most <= self._fields.probe_max:
            return
        raise EngineRefused(
            f"{self._url}: under the name {self._model} the engine does not serve {self.version}: log-probabilities "
            f"differ by {mean:.3g} nats per token (bound {self._fields.probe_mean:g}), at most {most:.3g} (bound "
            f"{self._fields.probe_max:g}){f'; they are those of {served}' if served else ''}"
        )


def _prompt_logps(reply: Mapping[str, Any], ids: Sequence[int]) -> list[float] | None:
    """The log-probabilities in a reply of either form; None if they are not there."""
    try:
        choice = reply["choices"][0]
        listed = choice.get("prompt_logprobs")
        if listed is not None:
            values = [entry[str(id)]["logprob"] for entry, id in zip(listed[1:], ids[1:], strict=True)]
        else:  # the last is of a token that the engine wrote
            values = choice["logprobs"]["token_logprobs"][1 : len(ids)]
        found = [float(value) for value in values]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    return found if len(found) == len(ids) - 1 and all(map(math.isfinite, found)) else None


def _is_other(engine: Sequence[float], own: Sequence[float], other: Sequence[float]) -> bool:
    """Whether values are nearer to another version's than to the right one's, and by more than rounding explains."""
    apart = [b - a for a, b in zip(own, other, strict=True)]
    off = [b - a for a, b in zip(own, engine, strict=True)]
    square = sum(x * x for x in apart)
    if not square:
        return False
    part = sum(x * y for x, y in zip(apart, off)) / square  # 0: the right one; 1: the other
    rounding = math.sqrt(sum((y - part * x) ** 2 for x, y in zip(apart, off)) / len(own))
    return part > 0.5 and math.sqrt(square) > _TELLS * rounding
