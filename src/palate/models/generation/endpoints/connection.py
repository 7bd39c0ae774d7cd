"""One endpoint of an engine: its URL, the SDK's client, and failures as errors of one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from palate.errors import EngineError, EngineRefused

if TYPE_CHECKING:
    from openai import APIStatusError, DefaultHttpxClient, OpenAI

T = TypeVar("T")

KEY_VARIABLES = ("PALATE_API_KEY", "OPENAI_API_KEY")
LATER = "run again later; finished work is kept"
_CONNECT_SECONDS = 10.0


class Connection:
    """An endpoint at a base URL that ends in `/v1`; `timeout` seconds are waited for a reply.

    Attributes:
        base_url: without a slash at its end.
        key: the API key of the environment; "" if there is none.
    """

    def __init__(self, base_url: str, *, timeout: float, http_client: DefaultHttpxClient) -> None:
        _check_url(base_url)
        # Slow to import, and most runs need no engine.
        import httpx2
        from openai import OpenAI

        self.base_url = base_url.rstrip("/")
        self.key = next((key for name in KEY_VARIABLES if (key := os.environ.get(name, "").strip())), "")
        self._timeout = httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))
        self._client = OpenAI(api_key=self.key or "none", base_url=self.base_url, http_client=http_client)

    def request(self, path: str, send: Callable[[OpenAI, str], T], attempts: int, *, seconds: float | None = None) -> T:
        """What `send` makes of the client and the URL; the SDK waits and repeats a request while the endpoint is busy.

        Args:
            seconds: to wait for a reply; default as given to the connection.

        Raises:
            EngineRefused: the endpoint will not serve the request. EngineError: it is busy or cannot be reached.
        """
        from openai import APIConnectionError, APIStatusError

        from palate.models.generation.endpoints.reply_limits import ReplyLimit

        url = f"{self.base_url}/{path}"
        times = f", {attempts} times" if attempts > 1 else ""
        try:
            wait = self._timeout if seconds is None else seconds
            return send(self._client.with_options(max_retries=attempts - 1, timeout=wait), url)
        except ReplyLimit as error:
            raise EngineError(f"{url}: {error}") from error
        except APIConnectionError as error:
            cause = error.__cause__ or error
            detail = self.redacted(" ".join(str(cause).split()))
            problem = f"cannot be reached ({type(cause).__name__}: {detail}){times}"
            raise EngineError(f"{url}: {problem}; {LATER}") from error
        except APIStatusError as error:
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                delay = self.redacted(error.response.headers.get("retry-after", ""))
                more = f" and asks to wait (Retry-After: {delay})" if delay else times
                raise EngineError(f"{url}: answered {error.status_code}{more}; {LATER}", error.status_code) from error
            raise EngineRefused(f"{url}: {self.redacted(_refusal(error))}", error.status_code) from error
        except (ValueError, RecursionError) as error:  # of the JSON parser: no JSON, not UTF-8, huge numbers, too deep
            raise EngineError(f"{url}: answered with something that is not JSON; {LATER}") from error

    def redacted(self, text: str) -> str:
        """A text without the key."""
        return text.replace(self.key, "<key>") if self.key else text


def _check_url(base_url: str) -> None:
    """Raise EngineError if the URL is not a complete http or https URL, or has a password in it."""
    try:
        url = urlsplit(base_url)
        complete = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # the port is not a number, or too large
        url, complete = urlsplit(""), False
    if url.username or url.password or url.query:
        # Base URLs are written to votes and messages.
        raise EngineError(
            f"{url.scheme}://…{url.hostname}: a base URL has no user, password or query; "
            f"set {KEY_VARIABLES[0]} or {KEY_VARIABLES[1]} instead"
        )
    if not complete:
        raise EngineError(f"{base_url}: the engine's base URL must be http://host:port/v1 or https://host/v1")


def _refusal(error: APIStatusError) -> str:
    """One line about a request that the engine rejected and would reject again."""
    status = error.status_code
    if status in (401, 403):
        return f"refused the key ({status}); set {KEY_VARIABLES[0]} or {KEY_VARIABLES[1]}"
    found = error.body.get("message", error.body) if isinstance(error.body, dict) else error.body
    hint = "; does the base URL end in /v1, and does the engine serve this model?" if status == 404 else ""
    return f"refused the request ({status}): {' '.join(str(found or '').split())[:200]}{hint}"
