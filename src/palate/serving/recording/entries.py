"""What the gateway tells the recorder of a request and of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Policy: TypeAlias = Literal["none", "metadata", "redacted", "full"]
"""What is recorded: nothing; numbers and states without texts; texts without what looks private; everything."""
Endpoint: TypeAlias = Literal["chat", "completions", "responses"]
State: TypeAlias = Literal[
    "reserved", "streaming", "complete", "cancelled", "refused", "unreachable", "upstream_error", "partial"
]

OPEN: tuple[State, ...] = ("reserved", "streaming")
"""States of an interaction whose end is not written yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInteraction:
    """A request, before its first byte is answered.

    Attributes:
        endpoint: chat, completions or responses.
        prompt: the messages, or the text of a completion.
        model: name of the version that answers.
        policy: what may be recorded, of the key.
        consent: whether the person consented to training (header of the request, else the key's default).
        store: False if the client sent `store: false`; nothing is recorded then.
        key_id: of the API key; None without keys.
        user: the client's `user` field as it came; the recorder stores a keyed hash of it. None: one person per key.
        identity: content hash of the version, if known.
        template: SHA-256 of the chat template, if known.
        decoding: the settings of the sampling that the client sent, `n` included.
        route: name of the route (an alias, an arm of a split), and `probability` that this request took it.
        tools: tool specifications of the request.
    """

    endpoint: Endpoint
    prompt: Sequence[Mapping[str, Any]] | str
    model: str
    policy: Policy
    consent: bool = False
    store: bool = True
    key_id: int | None = None
    user: str | None = None
    identity: str | None = None
    template: str | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    route: str = ""
    probability: float | None = None
    tools: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class RecordedChoice:
    """One choice of the reply.

    Attributes:
        text: what the client got of it.
        finish_reason: as the client got it; None if it did not end.
        tool_calls: in the form of the API, if there are any.
        tokens: number of tokens, if known.
    """

    text: str
    finish_reason: str | None
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, if known."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
