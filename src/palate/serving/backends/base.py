"""What answers a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Literal, Protocol, TypeAlias

Endpoint: TypeAlias = Literal["chat/completions", "completions"]


class Backend(Protocol):
    """A model that answers requests of the OpenAI API.

    Attributes:
        version: its name, which says exactly which weights answer.
        content_hash: of its weights; None for an engine, which does not tell.
        template_hash: of its chat template; None likewise.
    """

    version: str
    content_hash: str | None
    template_hash: str | None

    def events(self, endpoint: Endpoint, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of a streamed reply, each with a list of choices; the last ones have finish reasons and usage.

        Closing the iterator ends the generation.

        Raises:
            ApiError: the request is refused, or the reply broke off.
        """
        ...

    async def reply(self, endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
        """The whole reply; raises as `events`."""
        ...

    async def check(self) -> None:
        """Raise ApiError if it cannot answer now."""
        ...

    async def close(self) -> None:
        """Give back what it holds; nothing is asked of it any more."""
        ...
