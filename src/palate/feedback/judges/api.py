"""A judge that is a chat model behind an OpenAI-compatible API."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from palate.artifacts import JsonlWriter, now, read_jsonl
from palate.errors import ConfigError
from palate.feedback.judges.cache import Judgements
from palate.feedback.judges.chat import ChatClient, ChatReply, ChatRequest
from palate.feedback.judges.logprobs import TOP, verdict_of_tokens
from palate.feedback.judges.preparation import (
    PREPARATION_TOKENS,
    Kind,
    Preparation,
    preparation_text,
    read_preparation,
    reply_text,
)
from palate.feedback.judges.probe import Endpoint, endpoint_identity, probe_endpoint, stable_facts
from palate.feedback.judges.prompt import BUILT_IN, load_prompt
from palate.feedback.judges.render import RULE, block, clean, conversation_text, criteria_text, nonce_of
from palate.feedback.judges.replies import Mode, instruction, read_verdict, response_format
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.judges.usage import Meter
from palate.models.generation.completion import Completion
from palate.models.generation.engine import Engine
from palate.records import Columns, Message, Messages, Verdict
from palate.store.tables import Judgement

log = logging.getLogger(__name__)

_KEY_VERSION = 1
"""Goes up when the same request would have to be asked again."""

_TRUNCATED = "the reply was truncated at {} tokens; "


@dataclass(frozen=True, slots=True)
class _Question:
    """A request of a comparison, with what is needed to read its reply."""

    key: str
    request: ChatRequest
    criteria: tuple[str, ...]
    own_answer: str
    contents: Mapping[str, str]


class ApiJudge:
    """Compares answers by asking a chat model; each request is sent once, and its reply is kept in the store.

    A verdict that cannot be read is `unparsed` with the model's text as its reason. A request that fails gives a verdict
    that is `missing`; it is not stored, so that it is asked again by the next run.

    Args:
        model: the endpoint's name for it.
        settings: prompt, endpoint, decoding, limits.
        base_url: from the judge's name; goes before that of the settings.
        meter: counts tokens and cost; several judges may share one.

    Attributes:
        name: model, prompt, and a hash of prompt and settings: `openai:MODEL/criteria-1a2b3c4d`.
        prompt: what it is asked.
        meter: tokens and cost so far.
        cached: number of verdicts that came from the store.
    """

    kind = "judge"

    def __init__(
        self, model: str, settings: ApiSettings = ApiSettings(), *, base_url: str | None = None, meter: Meter | None = None
    ) -> None:
        self.prompt = load_prompt(settings.prompt)
        settings.check(self.prompt)
        self.name = f"openai:{model}/{self.prompt.name}-{settings.hash(self.prompt)}"
        self.meter = meter or Meter(settings.prices, settings.limits)
        self.cached = 0
        self._repetitions = 0
        self._settings = settings
        self._judgements = Judgements(settings.store)
        engine = Engine(settings.url(base_url), model, timeout=settings.timeout, attempts=settings.attempts)
        self._client = ChatClient(
            engine, in_flight=settings.in_flight, meter=self.meter, announce=settings.announce
        )
        self._endpoint: Endpoint | None = None

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        """One verdict per prompt; `left` is shown first."""
        found: dict[int, Verdict] = {}
        self.compare_each(prompts, left, right, columns, found.__setitem__)
        verdicts = [found[index] for index in range(len(prompts))]
        missing = [verdict.reason for verdict in verdicts if verdict.missing]
        if missing:
            log.warning("%s: %d of %d verdicts are missing: %s", self.name, len(missing), len(verdicts), missing[0])
        return verdicts

    def compare_each(
        self,
        prompts: Sequence[Messages],
        left: Sequence[str],
        right: Sequence[str],
        columns: Columns | None,
        decided: Callable[[int, Verdict], None],
    ) -> None:
        """The same, with a call of `decided` for each verdict, in the order of their arrival.

        Raises:
            EngineError: the endpoint refuses every request, or cannot be reached any more.
            ConfigError: it has no log-probabilities, and the settings ask for them.
        """
        if not prompts:
            return
        conversations = [
            conversation_text(prompt, tools) for prompt, tools in zip(prompts, _tools(columns, len(prompts)))
        ]
        rubrics = self._prepare("rubric", conversations) if self.prompt.kind == "generated" else {}
        answers = self._prepare("own_answer", conversations) if self._settings.commit_first else {}
        questions: dict[str, _Question] = {}
        places: dict[str, list[int]] = {}
        for index, (conversation, first, second) in enumerate(zip(conversations, left, right)):
            rubric = rubrics.get(conversation, Preparation(criteria=self.prompt.criteria))
            answer = answers.get(conversation, Preparation())
            unusable = next((one for one in (rubric, answer) if one.problem), None)
            if unusable is not None:
                decided(index, Verdict("unparsed", unusable.problem, missing=unusable.missing))
                continue
            question = self._question(conversation, clean(first), clean(second), rubric.criteria, answer.text)
            questions[question.key] = question
            places.setdefault(question.key, []).append(index)

        def found(key: str, verdict: Verdict) -> None:
            for index in places[key]:
                decided(index, verdict)

        for key, row in self._judgements.known(list(questions)).items():
            self.cached += len(places[key])
            found(key, self._stored_verdict(row, questions.pop(key)))
        waiting = list(questions.values())

        def arrived(number: int, reply: ChatReply) -> None:
            found(waiting[number].key, self._verdict(waiting[number], reply))

        replies = self._client.ask([question.request for question in waiting], arrived)
        for question, reply in zip(waiting, replies):
            if not reply.asked:
                found(question.key, Verdict("unparsed", reply.error, missing=True))

    def endpoint(self) -> Endpoint:
        """What the endpoint is and can do, from the store or by asking it.

        Raises:
            EngineError: it cannot be reached, or refuses the model.
        """
        if self._endpoint is None:
            engine = self._client.engine
            facts = stable_facts(engine)
            known = self._judgements.endpoint(endpoint_identity(engine.base_url, engine.name, facts), engine.base_url)
            if known is None:
                known = probe_endpoint(engine, facts, sent=self._probed)
                if known.certain:
                    self._judgements.add_endpoint(known)
            if self._settings.logprobs and not known.logprobs:
                raise ConfigError(f"--logprobs: {engine.name} at {engine.base_url} returns no log-probabilities")
            self._endpoint = known
        return self._endpoint

    def prompts(self) -> dict[str, ApiJudge]:
        """The same judge with each built-in prompt that its other settings allow, and with its own, by name."""
        found = {self.prompt.name: self}
        for name in BUILT_IN:
            if name not in found and (not self._settings.logprobs or load_prompt(name).output == "letter"):
                found[name] = self._with(prompt=name)
        return found

    def uncached(self) -> ApiJudge:
        """The same judge, which asks every question again."""
        self._repetitions += 1
        return self._with(repeat=self._settings.repeat + self._repetitions)

    def _with(self, **changed: Any) -> ApiJudge:
        engine = self._client.engine
        settings = replace(self._settings, **changed)
        return ApiJudge(engine.name, settings, base_url=engine.base_url, meter=self.meter)

    @property
    def model(self) -> str:
        """The endpoint's name for its model."""
        return self._client.engine.name

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of its prompt."""
        return self.prompt.sha256

    @property
    def concurrency(self) -> int:
        """Most requests at once."""
        return self._settings.in_flight

    def _probed(self, reply: Completion | None) -> None:
        self.meter.probed(reply and reply.prompt_tokens, reply and reply.completion_tokens)

    @property
    def _mode(self) -> Mode:
        """How the form of a reply is asked for."""
        endpoint = self.endpoint()
        if endpoint.json_stops_thinking:
            return "plain"
        return "schema" if endpoint.schema else "json" if endpoint.json_mode else "plain"

    def _question(
        self, conversation: str, first: str, second: str, criteria: tuple[str, ...], own_answer: str
    ) -> _Question:
        nonce = nonce_of(self.prompt.sha256, conversation, first, second, own_answer, *criteria)
        before = [RULE.format(nonce=nonce)]
        if own_answer:
            before += ["Your own answer to the prompt, which you wrote before you saw the others:"]
            before += [block("own answer", own_answer, nonce)]
        text = self.prompt.fill(
            prompt=block("prompt", conversation, nonce),
            answer_a=block("answer A", first, nonce),
            answer_b=block("answer B", second, nonce),
            criteria=criteria_text(criteria),
        )
        parts = [*before, text.strip(), instruction(self.prompt, criteria, self._mode)]
        more: dict[str, Any] = response_format(self.prompt, criteria, self._mode)
        if self._settings.logprobs:
            more = {**more, "logprobs": True, "top_logprobs": TOP}
        request = self._request("\n\n".join(filter(None, parts)), self.prompt.max_tokens, more)
        contents = {name: _sha256(value) for name, value in (("prompt", conversation), ("first", first), ("second", second))}
        return _Question(self._key(request), request, criteria, own_answer, contents)

    def _request(self, text: str, max_tokens: int, more: Mapping[str, Any]) -> ChatRequest:
        endpoint = self.endpoint()
        if self._settings.temperature and endpoint.seed:
            more = {**more, "seed": self._settings.repeat}
        return ChatRequest(
            (Message("user", text),),
            self._settings.max_tokens(max_tokens),
            self._settings.temperature if endpoint.temperature else None,
            self._settings.raised_tokens(max_tokens),
            more,
            endpoint.tokens_field,
        )

    def _key(self, request: ChatRequest) -> str:
        """SHA-256 of everything that determines the reply."""
        determines = [
            _KEY_VERSION,
            self.endpoint().identity,
            self.prompt.sha256,
            request.body(),
            request.raised,
            self._settings.thinking_budget,
            self._settings.repeat,
        ]
        return _sha256(json.dumps(determines, sort_keys=True))

    def _verdict(self, question: _Question, reply: ChatReply) -> Verdict:
        """The verdict of a reply, which is stored first."""
        if reply.error:
            return Verdict("unparsed", clean(reply.error), missing=True)
        text, problem = reply_text(reply)
        if problem:
            verdict = Verdict("unparsed", problem)
        elif self._settings.logprobs:
            verdict = verdict_of_tokens(reply.tokens, ties=self.prompt.ties)
        else:
            verdict = read_verdict(self.prompt, question.criteria, text)
            if verdict.outcome == "unparsed" and reply.finish_reason == "length":
                verdict = replace(verdict, reason=_TRUNCATED.format(reply.max_tokens) + verdict.reason)
        request = {**self._described(question.request, reply), "contents": dict(question.contents)}
        if self._settings.logprobs:
            request["reason"] = clean(verdict.reason)
        self._judgements.add(
            question.key,
            self.name,
            request,
            reply,
            text,
            verdict.outcome,
            probability=verdict.probability_left,
            error=clean(verdict.reason) if verdict.outcome == "unparsed" else None,
        )
        return self._with_own_answer(verdict, question)

    def _stored_verdict(self, row: Judgement, question: _Question) -> Verdict:
        if row.error is not None:
            verdict = Verdict("unparsed", row.error)
        elif self._settings.logprobs:
            outcome: Any = row.outcome
            verdict = Verdict(outcome, str(row.request.get("reason", "")), row.probability)
        else:
            verdict = read_verdict(self.prompt, question.criteria, row.text)
        return self._with_own_answer(verdict, question)

    def _with_own_answer(self, verdict: Verdict, question: _Question) -> Verdict:
        if not question.own_answer:
            return verdict
        return replace(verdict, reason=f"own answer: {question.own_answer}\n{verdict.reason}".rstrip())

    def _described(self, request: ChatRequest, reply: ChatReply) -> dict[str, Any]:
        """How a judgement was asked for, without its texts."""
        endpoint, settings = self.endpoint(), self._settings
        return {
            "prompt": {"name": self.prompt.name, "version": self.prompt.version, "sha256": self.prompt.sha256},
            "model": endpoint.model,
            "served": clean(reply.model),
            "base_url": endpoint.base_url,
            "endpoint": endpoint.identity,
            "decoding": {"temperature": request.temperature, "max_tokens": reply.max_tokens},
            "thinking_budget": settings.thinking_budget,
            "form": self._mode,
            "logprobs": settings.logprobs,
            "commit_first": settings.commit_first,
            "repeat": settings.repeat,
        }

    def _prepare(self, kind: Kind, conversations: Iterable[str]) -> dict[str, Preparation]:
        """Conversation → what the judge wrote about it, each asked for once."""
        wanted = list(dict.fromkeys(conversations))
        requests = [
            self._request(preparation_text(kind, self.prompt, conversation), PREPARATION_TOKENS, {})
            for conversation in wanted
        ]
        keys = [self._key(request) for request in requests]
        known = self._judgements.known(keys)
        found = {
            conversation: read_preparation(kind, known[key].text)
            if known[key].error is None
            else Preparation(problem=str(known[key].error))
            for conversation, key in zip(wanted, keys)
            if key in known
        }
        waiting = [number for number, key in enumerate(keys) if key not in known]

        def arrived(place: int, reply: ChatReply) -> None:
            number = waiting[place]
            if reply.error:
                found[wanted[number]] = Preparation(problem=clean(reply.error), missing=True)
                return
            text, problem = reply_text(reply)
            preparation = Preparation(problem=problem) if problem else read_preparation(kind, text)
            found[wanted[number]] = preparation
            described = self._described(requests[number], reply)
            error = clean(preparation.problem) or None
            self._judgements.add(keys[number], self.name, described, reply, text, kind, error=error)

        replies = self._client.ask([requests[number] for number in waiting], arrived)
        for number, reply in zip(waiting, replies):
            if not reply.asked:
                found[wanted[number]] = Preparation(problem=reply.error, missing=True)
        if kind == "rubric":
            self._keep_rubrics(found)
        return found

    def _keep_rubrics(self, found: Mapping[str, Preparation]) -> None:
        """Append the criteria of new prompts to the file of rubrics."""
        path = self._settings.rubrics
        if path is None:
            return
        have = {(row.get("prompt_sha256"), row.get("who")) for row in (read_jsonl(path) if path.exists() else ())}
        with JsonlWriter(path) as file:
            for conversation, preparation in found.items():
                key = _sha256(conversation)
                if not preparation.problem and (key, self.name) not in have:
                    row = {"prompt_sha256": key, "prompt": conversation, "criteria": list(preparation.criteria)}
                    file.write({**row, "who": self.name, "when": now()})


def _tools(columns: Columns | None, count: int) -> Sequence[str | None]:
    """The tools of each row, as JSON text."""
    given = (columns or {}).get("tools") or [None] * count
    return [tools if isinstance(tools, str) or tools is None else json.dumps(tools) for tools in given]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
