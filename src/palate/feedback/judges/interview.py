"""One request to a judge: its text, its key in the store, and the verdict in its reply."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from palate.artifacts import json_hash
from palate.feedback.judges.chat import ChatReply, ChatRequest
from palate.feedback.judges.logprobs import TOP, verdict_of_tokens
from palate.feedback.judges.preparation import PREPARATION_TOKENS, PreparationKind, preparation_text, reply_text
from palate.feedback.judges.probe import ProbedEndpoint
from palate.feedback.judges.prompt import JudgePrompt
from palate.feedback.judges.render import RULE, block, clean, criteria_text, nonce_of
from palate.feedback.judges.replies import Mode, instruction, read_verdict, response_format
from palate.feedback.judges.settings import ApiSettings
from palate.models.generation.endpoints.pool import CHAT
from palate.records import Message, Messages, Verdict
from palate.store.tables import Judgement

_KEY_VERSION = 1
"""Goes up when the same request would have to be asked again."""


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """A request with what is needed to read its reply.

    Attributes:
        key: SHA-256 of everything that determines the reply.
        criteria: of a rubric.
        own_answer: that the judge wrote before; "" if it was not asked for one.
        contents: SHA-256 of each of the texts that are shown, by name.
    """

    key: str
    request: ChatRequest
    criteria: tuple[str, ...] = ()
    own_answer: str = ""
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interview:
    """How a judge is asked: prompt, settings, and what its endpoint can do."""

    prompt: JudgePrompt
    settings: ApiSettings
    endpoint: ProbedEndpoint

    @property
    def mode(self) -> Mode:
        """How the form of a reply is asked for."""
        if self.endpoint.json_stops_thinking:
            return "plain"
        return "schema" if self.endpoint.schema else "json" if self.endpoint.json_mode else "plain"

    def comparison(
        self, conversation: str, first: str, second: str, criteria: tuple[str, ...], own_answer: str
    ) -> JudgeRequest:
        """The question which of two answers to a conversation is better."""
        first, second = clean(first), clean(second)
        nonce = nonce_of(self.prompt.sha256, conversation, first, second, own_answer, *criteria)
        parts = [RULE.format(nonce=nonce)]
        if own_answer:
            parts += ["Your own answer to the prompt, which you wrote before you saw the others:"]
            parts += [block("own answer", own_answer, nonce)]
        text = self.prompt.fill(
            prompt=block("prompt", conversation, nonce),
            answer_a=block("answer A", first, nonce),
            answer_b=block("answer B", second, nonce),
            criteria=criteria_text(criteria),
        )
        parts += [text.strip(), instruction(self.prompt, criteria, self.mode)]
        more: dict[str, Any] = response_format(self.prompt, criteria, self.mode)
        if self.settings.logprobs:
            more = {**more, "logprobs": True, "top_logprobs": TOP}
        asked = Message("user", "\n\n".join(filter(None, parts)))
        request = self._request((asked,), self.prompt.max_tokens, more)
        shown = {"prompt": sha256(conversation), "first": sha256(first), "second": sha256(second)}
        return JudgeRequest(self._key(request), request, criteria, own_answer, shown)

    def preparation(self, kind: PreparationKind, conversation: str) -> JudgeRequest:
        """The request for criteria, or for an answer of the judge's own."""
        asked = Message("user", preparation_text(kind, self.prompt, conversation))
        request = self._request((asked,), PREPARATION_TOKENS, {})
        return JudgeRequest(self._key(request), request, contents={"prompt": sha256(clean(conversation))})

    def own(self, conversation: Messages, max_tokens: int) -> JudgeRequest:
        """A request of the caller's own. Its key depends on its text, not on the judge's prompt."""
        conversation = tuple(replace(message, content=clean(message.content)) for message in conversation)
        request = self._request(conversation, max_tokens, {})
        texts = {f"message {number}": sha256(message.content) for number, message in enumerate(conversation, 1)}
        return JudgeRequest(self._key(request, prompt=""), request, contents=texts)

    def verdict(self, asked: JudgeRequest, reply: ChatReply) -> Verdict:
        text, problem = reply_text(reply)
        if problem:
            return Verdict("unparsed", problem)
        if self.settings.logprobs:
            verdict = verdict_of_tokens(reply.tokens, ties=self.prompt.ties)
            return replace(verdict, reason=clean(verdict.reason))
        verdict = read_verdict(self.prompt, asked.criteria, text)
        if verdict.outcome == "unparsed" and reply.finish_reason == "length":
            return replace(verdict, reason=f"the reply was truncated at {reply.max_tokens} tokens; {verdict.reason}")
        return verdict

    def stored_verdict(self, asked: JudgeRequest, row: Judgement) -> Verdict:
        """The verdict of a reply from the store."""
        if row.error is not None:
            return Verdict("unparsed", row.error)
        if self.settings.logprobs:
            outcome: Any = row.outcome
            return Verdict(outcome, str(row.request.get("reason", "")), row.probability)
        return read_verdict(self.prompt, asked.criteria, row.text)

    def description(self, asked: JudgeRequest, reply: ChatReply) -> dict[str, Any]:
        """How a reply was asked for, without the texts."""
        return {
            "prompt": {"name": self.prompt.name, "version": self.prompt.version, "sha256": self.prompt.sha256},
            "model": self.endpoint.model,
            "served": clean(reply.model),
            "base_url": reply.url.removesuffix(f"/{CHAT}"),
            "endpoint": self.endpoint.identity,
            "decoding": {"temperature": asked.request.temperature, "max_tokens": reply.max_tokens},
            "thinking_budget": self.settings.thinking_budget,
            "thought": reply.thinking,
            "form": self.mode,
            "logprobs": self.settings.logprobs,
            "commit_first": self.settings.commit_first,
            "repeat": self.settings.repeat,
            "contents": dict(asked.contents),
        }

    def _request(self, messages: Messages, max_tokens: int, more: Mapping[str, Any]) -> ChatRequest:
        if self.settings.temperature and self.endpoint.seed:
            more = {**more, "seed": self.settings.repeat}
        return ChatRequest(
            messages,
            self.settings.max_tokens(max_tokens),
            self.settings.temperature if self.endpoint.temperature else None,
            self.settings.raised_tokens(max_tokens),
            more,
            self.endpoint.tokens_field,
        )

    def _key(self, request: ChatRequest, *, prompt: str | None = None) -> str:
        determines = [
            _KEY_VERSION,
            self.endpoint.identity,
            self.prompt.sha256 if prompt is None else prompt,
            request.body(),
            request.raised,
            self.settings.thinking_budget,
            self.settings.repeat,
        ]
        return json_hash(determines)


def sha256(text: str) -> str:
    """In hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
