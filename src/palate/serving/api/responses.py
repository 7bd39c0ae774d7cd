"""`/v1/responses` without memory: a request becomes a chat completion, and its reply a response with one text.

What needs a stored response, a tool of the service or an image is refused.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from palate.serving.api.call import Call, ChatParameters, Parameters, read_parameters, refuse_unknown
from palate.serving.problems import ApiError, invalid
from palate.serving.wire import event

_PARTS = frozenset({"input_text", "output_text", "text"})
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "tools": ([],),
    "tool_choice": ("auto", "none"),
    "truncation": ("disabled",),
    "text": ({}, {"format": {"type": "text"}}),
    "include": ([],),
    "reasoning": ({},),
    "top_logprobs": (0,),
}
"""Parameters that are obeyed only with these values."""
_HARMLESS = frozenset(
    {
        *("metadata", "parallel_tool_calls", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("prompt_cache_retention", "max_tool_calls"),
    }
)
_MEMORY = ("previous_response_id", "conversation", "prompt")


class ResponseParameters(Parameters):
    """Parameters of `/v1/responses`."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)


def read_response_call(body: dict[str, Any]) -> Call:
    """The request in a body; raises ApiError that names the wrong parameter."""
    asked = read_parameters(ResponseParameters, body)
    for name in _MEMORY:
        if body.get(name) is not None:
            raise invalid(f"{name}: this server keeps no responses; send the whole conversation as input", name)
    for name in ("n", "stop", "max_tokens"):
        if name in asked.model_fields_set:
            raise invalid(f"{name}: not a parameter of /v1/responses", name, "unsupported_parameter")
    refuse_unknown(asked, _NEUTRAL, _HARMLESS)
    chat: dict[str, Any] = {"messages": _messages(asked)}
    given = asked.model_fields_set
    chat |= {name: getattr(asked, name) for name in ("temperature", "top_p", "seed", "user", "store") if name in given}
    if asked.max_output_tokens is not None:
        chat["max_tokens"] = asked.max_output_tokens
    read_parameters(ChatParameters, chat).turns()
    return Call("chat/completions", chat, asked, ResponseForm(asked))


def _messages(asked: ResponseParameters) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": asked.instructions}] if asked.instructions else []
    if isinstance(asked.input, str):
        return [*system, {"role": "user", "content": asked.input}]
    return [*system, *(_message(item, f"input[{number}]") for number, item in enumerate(asked.input))]


def _message(item: dict[str, Any], name: str) -> dict[str, Any]:
    if item.get("type", "message") != "message":
        raise invalid(f"{name}: only messages are supported, not {str(item['type'])[:40]}", "input")
    content = item.get("content")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.get("type") not in _PARTS or not isinstance(part.get("text"), str):
                raise invalid(f"{name}: only parts of text are supported", "input")
        content = "".join(part["text"] for part in content)
    role = item.get("role")
    return {"role": "system" if role == "developer" else role, "content": content}


class ResponseForm:
    """A response with one message, made from the chunks or the whole of a chat completion."""

    def __init__(self, asked: ResponseParameters) -> None:
        self._asked = asked
        self._item = f"msg_{uuid.uuid4().hex}"
        self._id = ""
        self._model = ""
        self._created = int(time.time())
        self._text: list[str] = []
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._number = 0
        self._more: dict[str, Any] = {}

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        """See Form."""
        self._begin(reply)
        choice = reply["choices"][0]
        self._text.append((choice.get("message") or {}).get("content") or "")
        self._finish, self._usage = choice.get("finish_reason"), reply.get("usage")
        return self._response(self._status)

    def pieces(self, chunk: dict[str, Any]) -> Iterable[bytes]:
        """See Form."""
        if not self._id:
            self._begin(chunk)
            yield self._event("response.created", response=self._response("in_progress"))
            yield self._event("response.in_progress", response=self._response("in_progress"))
            item = {**self._message("in_progress"), "content": []}
            yield self._event("response.output_item.added", output_index=0, item=item)
            yield self._part("response.content_part.added", part=_part(""))
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            if text := (choice.get("delta") or {}).get("content"):
                self._text.append(text)
                yield self._part("response.output_text.delta", delta=text, logprobs=[])

    def last(self) -> Iterable[bytes]:
        """See Form."""
        text = "".join(self._text)
        yield self._part("response.output_text.done", text=text, logprobs=[])
        yield self._part("response.content_part.done", part=_part(text))
        yield self._event("response.output_item.done", output_index=0, item=self._message("completed"))
        name = "response.completed" if self._status == "completed" else "response.incomplete"
        yield self._event(name, response=self._response(self._status))

    def failed(self, error: ApiError) -> Iterable[bytes]:
        """See Form."""
        failure = {"code": error.code or "server_error", "message": error.message}
        yield self._event("response.failed", response={**self._response("failed"), "error": failure})

    @property
    def _status(self) -> str:
        return "incomplete" if self._finish in ("length", "content_filter") else "completed"

    def _begin(self, reply: dict[str, Any]) -> None:
        # Of a recorded request it is the interaction's, which has the prefix already.
        self._id = f"resp_{str(reply.get('id', '')).removeprefix('resp_')}"
        self._model = str(reply.get("model", ""))
        self._more = {"palate": reply["palate"]} if "palate" in reply else {}

    def _response(self, status: str) -> dict[str, Any]:
        reason = "max_output_tokens" if self._finish == "length" else self._finish
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": self._asked.instructions,
            "max_output_tokens": self._asked.max_output_tokens,
            "model": self._model,
            "output": [] if status == "in_progress" else [self._message(status)],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": self._asked.temperature,
            "tool_choice": "auto",
            "tools": [],
            "top_p": self._asked.top_p,
            "truncation": "disabled",
            "usage": _usage(self._usage),
            "metadata": (self._asked.model_extra or {}).get("metadata") or {},
            **self._more,
        }

    def _message(self, status: str) -> dict[str, Any]:
        content = [_part("".join(self._text))]
        status = "incomplete" if status == "failed" else status
        return {"type": "message", "id": self._item, "role": "assistant", "status": status, "content": content}

    def _part(self, name: str, **fields: Any) -> bytes:
        return self._event(name, item_id=self._item, output_index=0, content_index=0, **fields)

    def _event(self, name: str, **fields: Any) -> bytes:
        self._number += 1
        return event({"type": name, "sequence_number": self._number - 1, **fields}, name)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    if not usage or usage.get("prompt_tokens") is None:  # the engine counts nothing
        return None
    asked, made = usage["prompt_tokens"], usage.get("completion_tokens") or 0
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + made,
    }
