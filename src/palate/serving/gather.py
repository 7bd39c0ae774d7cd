"""The chunks of a streamed reply, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from palate.serving.recording.entries import RecordedChoice, Usage


@dataclass(slots=True)
class _Answer:
    text: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    finish_reason: str | None = None
    pieces: int = 0


class Gathered:
    """What a reply has said so far, from chunks or as a whole, with choices as backends give them.

    Args:
        texts: whether texts are kept; without them only tokens are counted.
        streamed: whether the reply comes in pieces of about a token each, which count where the backend gives no usage.
    """

    def __init__(self, *, texts: bool = True, streamed: bool = False) -> None:
        self._texts = texts
        self._streamed = streamed
        self._answers: dict[int, _Answer] = {}
        self._usage: dict[str, Any] = {}
        self._head: dict[str, Any] = {}

    def add(self, reply: dict[str, Any]) -> None:
        """A chunk, or a whole reply; fields of other types than the API's are left out."""
        self._head = self._head or {key: reply.get(key) for key in ("id", "object", "created", "model")}
        if isinstance(reply.get("usage"), dict):
            self._usage = reply["usage"]
        for choice in reply["choices"]:
            self._add(self._answers.setdefault(choice.get("index", 0), _Answer()), choice)

    def _add(self, answer: _Answer, choice: dict[str, Any]) -> None:
        reason = choice.get("finish_reason")
        answer.finish_reason = reason if isinstance(reason, str) else answer.finish_reason
        message = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        text = message.get("content")
        if text:
            answer.pieces += 1
            if self._texts:
                answer.text.append(text)
        if not self._texts:
            return
        if isinstance(choice.get("logprobs"), dict):
            answer.logprobs.append(choice["logprobs"])
        calls = message.get("tool_calls")
        for number, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                _add_call(answer.calls.setdefault(call.get("index", number), {"type": "function"}), call)

    @property
    def usage(self) -> Usage:
        """Tokens as the backend counts them; else the pieces of a stream, and None of what is not known."""
        asked, made = (_count(self._usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        if made is None and self._streamed:
            made = sum(answer.pieces for answer in self._answers.values())
        return Usage(asked, made)

    def estimate(self) -> dict[str, Any] | None:
        """The last chunk of a stream whose backend gave no usage: the pieces of text, marked as an estimate."""
        if self._usage:
            return None
        counts = {"prompt_tokens": None, "completion_tokens": self.usage.completion_tokens, "total_tokens": None}
        return {**self._head, "choices": [], "usage": {**counts, "estimated": True}}

    @property
    def ended(self) -> bool:
        """Whether there are answers, and all have a finish reason."""
        return bool(self._answers) and all(answer.finish_reason for answer in self._answers.values())

    def answers(self) -> list[RecordedChoice]:
        """The answers in the order of their index."""
        return [
            RecordedChoice("".join(answer.text), answer.finish_reason, list(answer.calls.values()) or None)
            for _, answer in sorted(self._answers.items())
        ]

    def whole(self, *, chat: bool) -> dict[str, Any]:
        """The reply that is not streamed."""
        choices = []
        for index, answer in sorted(self._answers.items()):
            text = "".join(answer.text)
            said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            logprobs = _joined(answer.logprobs)
            choices.append({"index": index, **said, "logprobs": logprobs, "finish_reason": answer.finish_reason})
        kind = "chat.completion" if chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": self._usage}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _add_call(call: dict[str, Any], piece: dict[str, Any]) -> None:
    if isinstance(piece.get("id"), str):
        call["id"] = piece["id"]
    function = piece.get("function")
    if isinstance(function, dict):
        known = call.setdefault("function", {"name": "", "arguments": ""})
        for key in ("name", "arguments"):
            if isinstance(function.get(key), str):
                known[key] += function[key]


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The log-probabilities of all chunks: lists under the same names."""
    if not parts:
        return None
    return {key: [entry for part in parts for entry in part.get(key) or ()] for key in parts[0]}
