"""Any OpenAI-compatible engine (vLLM, llama.cpp, a hosted one) as something that answers prompts."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from palate.errors import EngineError, EngineRefused
from palate.models.generation.generate import Decoding
from palate.records import Answer, Messages, as_turns

KEY_VARIABLES = ("PALATE_API_KEY", "OPENAI_API_KEY")
# What a busy or restarting engine says; everything else will not get better by asking again.
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 60.0
# What an engine may ask for; one that asks for more is busy for longer than anybody watches.
_LONGEST_ASKED = 600.0


class Engine:
    """A chat engine at a base URL.

    Args:
        base_url: up to and including `/v1`.
        model: the engine's name for the model.
        timeout: seconds to wait for one answer.
        attempts: how often a request is sent while the engine is busy or away.
        workers: requests under way at a time.
        transport: in place of the network, for tests.
        sleep: waits between attempts.

    The key, where the engine wants one, comes from the environment (PALATE_API_KEY or OPENAI_API_KEY) and goes nowhere
    but into the request.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        timeout: float = 300.0,
        attempts: int = 6,
        workers: int = 8,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        _check_url(base_url)
        self.name = model
        self.identity: str | None = None
        self._base = base_url.rstrip("/")
        self._url = f"{self._base}/chat/completions"
        self._attempts = attempts
        self._workers = workers
        self._sleep = sleep
        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout, transport=transport)

    def answers(
        self,
        prompts: Sequence[Messages],
        decoding: Decoding,
        seeds: Sequence[int],
        *,
        tools: Sequence[str | None] | None = None,
    ) -> list[Answer]:
        """One answer per conversation, each sampled by its own seed as far as the engine honours one.

        Args:
            tools: JSON list of tool specifications for each conversation, sent along where there is one.

        Raises:
            EngineError: the engine cannot be reached, refuses, or answers with something else.
        """
        with ThreadPoolExecutor(self._workers) as pool:
            offered = tools or [None] * len(prompts)
            return list(
                pool.map(lambda prompt, seed, one: self._answer(prompt, decoding, seed, one), prompts, seeds, offered)
            )

    def load_adapter(self, folder: str | Path) -> None:
        """Serve the LoRA adapter in `folder`, which the engine must see under the same path, as this engine's model.

        What vLLM does at run time when it is started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
        """
        wanted = {"lora_name": self.name, "lora_path": str(Path(folder).resolve())}
        try:
            self._post("load_lora_adapter", wanted)
        except EngineRefused:  # the name is taken by the adapter of the step before, or of a run that was killed
            self._post("unload_lora_adapter", {"lora_name": self.name})
            self._post("load_lora_adapter", wanted)

    def _answer(self, prompt: Messages, decoding: Decoding, seed: int, tools: str | None) -> Answer:
        listed = json.loads(tools) if tools else None
        reply = self._post_for_json(
            "chat/completions",
            {
                "model": self.name,
                "messages": as_turns(prompt, arguments_as_text=True),
                "max_tokens": decoding.max_new_tokens,
                "temperature": decoding.temperature,
                "top_p": decoding.top_p,
                "seed": seed & 0x7FFFFFFF,  # engines differ in how long a seed may be
                **({"tools": listed} if listed else {}),
            },
        )
        try:
            choice = reply["choices"][0]
            text, reason = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError) as error:
            raise EngineError(f"{self._url}: the reply has no choices[0].message.content") from error
        if text is not None and not isinstance(text, str):
            raise EngineError(f"{self._url}: the reply's content is a {type(text).__name__}, not text")
        usage = reply.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        return Answer(text or "", str(reason or "stop"), tokens if isinstance(tokens, int) else None)

    def _post_for_json(self, path: str, body: dict[str, Any]) -> Any:
        return self._post(path, body, read=lambda reply: reply.json())

    def _post(
        self, path: str, body: dict[str, Any], *, read: Callable[[httpx.Response], Any] = lambda reply: reply.text
    ) -> Any:
        """What `read` makes of the reply; waits and asks again while the engine is busy, longer each time.

        Raises:
            EngineRefused: it will not serve the request. EngineError: it stays away.
        """
        url = f"{self._base}/{path}"
        problem, wait = "", 0.0
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(wait)
            wait = min(_LONGEST_WAIT, 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries
            try:
                reply = self._client.post(url, json=body)
            except httpx.RequestError as error:
                problem = f"cannot be reached ({type(error).__name__}: {' '.join(str(error).split())})"
                continue
            if reply.status_code in _PASSING:
                problem = f"answered {reply.status_code}"
                wait = _retry_after(reply, wait)
                if wait > _LONGEST_ASKED:
                    problem += f" and asks to wait {wait:.0f} s"
                    raise EngineError(f"{url}: {problem}; run again later, what is finished is kept")
                continue
            if reply.status_code != 200:
                raise EngineRefused(f"{url}: {_refusal(reply)}")
            try:
                return read(reply)
            except ValueError:
                problem = "answered with something that is not JSON"
        raise EngineError(f"{url}: {problem}, {self._attempts} times; run again later, what is finished is kept")


def _check_url(base_url: str) -> None:
    """Refuse what can never be asked, before it is asked again and again."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise EngineError(f"{base_url}: the engine's base URL cannot be read: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 1) < 65536:
        raise EngineError(f"{base_url}: the engine's base URL must be http://host:port/v1 or https://host/v1")


def _retry_after(reply: httpx.Response, wait: float) -> float:
    """Seconds that the engine asks to be left alone, as a number or as a date; `wait` where it does not say."""
    asked = reply.headers.get("retry-after", "")
    if asked.replace(".", "", 1).isdigit():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return wait


def _refusal(reply: httpx.Response) -> str:
    """One line for a request that will never be served."""
    if reply.status_code in (401, 403):
        return f"refused the key ({reply.status_code}); set {KEY_VARIABLES[0]} or {KEY_VARIABLES[1]}"
    try:
        body = reply.json()
        found = body.get("error", body) if isinstance(body, dict) else body
        said = str(found.get("message", found) if isinstance(found, dict) else found)
    except ValueError:
        said = reply.text
    hint = "; does the base URL end in /v1, and does the engine serve this model?" if reply.status_code == 404 else ""
    return f"refused the request ({reply.status_code}): {' '.join(said.split())[:200]}{hint}"
