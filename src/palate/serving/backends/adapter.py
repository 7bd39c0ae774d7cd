"""A version of the registry as a LoRA adapter at an engine: loaded under a name of its own, and compared before use."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

from palate.errors import EngineError, EngineRefused
from palate.serving.backends.base import Endpoint
from palate.serving.backends.upstream import Upstream
from palate.serving.problems import ApiError
from palate.serving.settings import ServedModelFields

if TYPE_CHECKING:
    from palate.registry import Version

_LOG = logging.getLogger("palate.serving")
_USES: Counter[tuple[str, str]] = Counter()
"""How many adapters of this process are the one at (engine, name): it is unloaded after the last."""
_LOADING: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One adapter at a time is loaded into an engine or unloaded."""
_FORMS: tuple[dict[str, Any], ...] = ({"echo": True, "logprobs": 1}, {"prompt_logprobs": 1})
"""How an engine is asked for log-probabilities of the prompt: as the OpenAI API, and by vLLM's own parameter."""
_APART = 4.0
"""Versions are told apart if the distance of their log-probabilities is so many times the engine's rounding."""


class EngineAdapter(Upstream):
    """An adapter at an engine; a request that finds it missing, because the engine was restarted, loads it again.

    Args:
        fields: with `upstream`.
        version: an adapter of the registry, with probes.
        others: what an engine could serve instead → log-probabilities of the same probes.
    """

    def __init__(self, fields: ServedModelFields, version: Version, others: Mapping[str, Sequence[float]]) -> None:
        super().__init__(version.name, fields)
        self.content_hash = version.content_hash
        # An engine that has seen a name may keep caches of its weights, so no other weights ever get this name.
        self._model = f"palate-{version.content_hash[:16]}"
        root = fields.adapter_root
        self._path = str(version.folder) if root is None else f"{root.rstrip('/')}/{version.folder.name}"
        self._probes = version.lineage["probes"]
        self._others = others
        self._loaded = False
        self._loading = asyncio.Lock()
        self._times = 0

    def load(self) -> None:
        """Load it into the engine and compare the engine's log-probabilities with the version's own. Blocks.

        Raises:
            EngineError: the engine does not answer.
            EngineRefused: it does not load adapters, or serves something else than this version.
        """
        with self._sync() as client:
            try:
                with _LOADING[self._url]:
                    self._load_adapter(client)
                    _USES[self._url, self._model] += not self._loaded
                    self._loaded = True
                self._compare([value for probe in self._probes for value in self._logps(client, probe["ids"])])
            except (EngineError, ApiError) as error:
                self._release()
                raise EngineError(error.message, error.status) if isinstance(error, ApiError) else error from error

    async def close(self) -> None:
        """See Backend."""
        await asyncio.to_thread(self._release)
        await super().close()

    @asynccontextmanager
    async def _response(self, endpoint: Endpoint, body: dict[str, Any]) -> AsyncIterator[httpx2.Response]:
        async with AsyncExitStack() as stack:
            times = self._times
            if self._loading.locked():  # it is loaded again, and not yet compared
                await self._load_again(times)
                times = self._times
            try:
                response = await stack.enter_async_context(super()._response(endpoint, body))
            except ApiError as error:
                if error.status != 404:
                    raise
                await self._load_again(times)
                response = await stack.enter_async_context(super()._response(endpoint, body))
            yield response

    def _checked(self, reply: dict[str, Any]) -> dict[str, Any]:
        return {**super()._checked(reply), "model": self.version}

    async def _load_again(self, times: int) -> None:
        async with self._loading:
            if self._times != times:  # another request has done it meanwhile
                return
            try:
                await asyncio.to_thread(self.load)
            except EngineError as error:
                _LOG.error("%s: %s", self.version, error)
                raise self._broken("it has lost the adapter, and did not take it again") from error
            self._times += 1
            _LOG.warning("%s: the engine had lost the adapter, and has loaded it again", self.version)

    def _load_adapter(self, client: httpx2.Client) -> None:
        try:
            self._ask(client, "load_lora_adapter", {"lora_name": self._model, "lora_path": self._path})
        except ApiError as error:
            if error.code in ("upstream_unreachable", "upstream_timeout"):
                raise
            if not self._has(client):  # an engine refuses to load one twice
                raise EngineRefused(
                    f"{self._url}: the engine does not load the adapter {self._path} ({error.message}); start vLLM "
                    "with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; adapter_root is the folder as it "
                    "sees it"
                ) from error

    def _release(self) -> None:
        with _LOADING[self._url]:
            if not self._loaded:
                return
            self._loaded = False
            _USES[self._url, self._model] -= 1
            if _USES[self._url, self._model]:
                return
            try:
                with self._sync() as client:
                    self._ask(client, "unload_lora_adapter", {"lora_name": self._model})
            except ApiError as error:
                _LOG.warning("%s: %s stays loaded at the engine: %s", self.version, self._model, error.message)

    def _sync(self) -> httpx2.Client:
        limits = httpx2.Timeout(self._fields.first_byte_seconds, connect=self._fields.connect_seconds)
        return httpx2.Client(headers=self._client.headers, timeout=limits)

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
        for form in _FORMS:
            body = {"model": self._model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, **form}
            try:
                found = _prompt_logps(self._json(self._ask(client, "completions", body)), ids)
            except ApiError as error:
                if error.status not in (400, 422):
                    raise
                continue
            if found is not None:
                return found
        raise EngineRefused(
            f"{self._url}: the engine gives no log-probabilities of a prompt (echo, prompt_logprobs), so what it "
            f"serves cannot be compared with {self.version}"
        )

    def _compare(self, engine: Sequence[float]) -> None:
        own = [value for probe in self._probes for value in probe["logps"]]
        differences = [abs(a - b) for a, b in zip(engine, own, strict=True)]
        mean, most = sum(differences) / len(own), max(differences)
        served = next((name for name, other in self._others.items() if _is_other(engine, own, other)), None)
        bounds = self._fields.probe_mean, self._fields.probe_max
        if served is not None or mean > bounds[0] or most > bounds[1]:
            raise EngineRefused(
                f"{self._url}: as {self._model} the engine does not serve {self.version}: log-probabilities differ by "
                f"{mean:.3g} nats per token (bound {bounds[0]:g}), at most {most:.3g} (bound {bounds[1]:g})"
                f"{f'; they are those of {served}' if served is not None else ''}"
            )


def _prompt_logps(reply: Mapping[str, Any], ids: Sequence[int]) -> list[float] | None:
    """The log-probabilities in a reply of either form; None if they are not there."""
    try:
        choice = reply["choices"][0]
        listed = choice.get("prompt_logprobs")
        if listed is None:  # with echo; the last one is of the token that the engine wrote
            found = [float(value) for value in choice["logprobs"]["token_logprobs"][1 : len(ids)]]
        else:
            found = [float(entry[str(token)]["logprob"]) for entry, token in zip(listed[1:], ids[1:], strict=True)]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    return found if len(found) == len(ids) - 1 and all(map(math.isfinite, found)) else None


def _is_other(engine: Sequence[float], own: Sequence[float], other: Sequence[float]) -> bool:
    """Whether values are nearer to another version's than to the right one's, by more than rounding explains."""
    apart = [b - a for a, b in zip(own, other, strict=True)]
    off = [b - a for a, b in zip(own, engine, strict=True)]
    square = sum(x * x for x in apart)
    part = sum(x * y for x, y in zip(apart, off)) / square if square else 0.0  # 0: the right one; 1: the other
    rounding = math.sqrt(sum((y - part * x) ** 2 for x, y in zip(apart, off)) / len(own))
    return part > 0.5 and math.sqrt(square) > _APART * rounding
