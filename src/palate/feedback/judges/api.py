"""A judge that is a chat model behind an OpenAI-compatible API."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from palate.artifacts import JsonlWriter, now, read_jsonl
from palate.errors import ConfigError
from palate.feedback.judges.cache import Judgements
from palate.feedback.judges.chat import ChatClient, ChatReply
from palate.feedback.judges.interview import Interview, JudgeRequest, sha256
from palate.feedback.judges.preparation import Preparation, PreparationKind, read_preparation, reply_text
from palate.feedback.judges.probe import ProbedEndpoint, endpoint_identity, probe_endpoint
from palate.feedback.judges.prompt import BUILT_IN, load_prompt
from palate.feedback.judges.render import clean, conversation_text
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.judges.usage import UsageMeter
from palate.models.generation.endpoints.endpoint import identifying_facts
from palate.models.generation.endpoints.engine import Engine
from palate.records import Columns, EachJudge, Messages, Verdict
from palate.store.tables import Judgement

T = TypeVar("T")

log = logging.getLogger(__name__)


class ApiJudge(EachJudge):
    """Compares answers by asking a chat model; each request is sent once, and its reply is kept in the store.

    A verdict that cannot be read is `unparsed` with the model's text as its reason. A request that fails gives a
    verdict that is `missing`; it is not stored, so that it is asked again by the next run.

    Args:
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
        self,
        model: str,
        settings: ApiSettings | None = None,
        *,
        base_url: str | None = None,
        meter: UsageMeter | None = None,
    ) -> None:
        settings = settings or ApiSettings()
        self.prompt = load_prompt(settings.prompt)
        settings.check(self.prompt)
        self.name = f"openai:{model}/{self.prompt.name}-{settings.hash(self.prompt)}"
        self.meter = meter or UsageMeter(settings.prices, settings.limits)
        self.cached = 0
        self._repetitions = 0
        self._settings = settings
        self._judgements = Judgements(settings.store)
        engine = Engine(
            settings.url(base_url),
            model,
            timeout=settings.timeout,
            attempts=settings.attempts,
            in_flight=settings.in_flight,
        )
        self._client = ChatClient(engine, in_flight=engine.most_in_flight, meter=self.meter, announce=settings.announce)
        self._endpoint: ProbedEndpoint | None = None

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        """One verdict per prompt; `left` is shown first."""
        verdicts = super().compare(prompts, left, right, columns)
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
        interview = self._interview()
        tools = _tools(columns, len(prompts))
        conversations = [clean(conversation_text(prompt, given)) for prompt, given in zip(prompts, tools)]
        rubrics = self._prepare(interview, "rubric", conversations) if self.prompt.kind == "generated" else {}
        answers = self._prepare(interview, "own_answer", conversations) if self._settings.commit_first else {}
        questions: dict[int, JudgeRequest] = {}
        for index, (conversation, first, second) in enumerate(zip(conversations, left, right)):
            rubric = rubrics.get(conversation, Preparation(criteria=self.prompt.criteria))
            answer = answers.get(conversation, Preparation())
            unusable = next((one for one in (rubric, answer) if one.problem), None)
            if unusable is not None:
                decided(index, Verdict("unparsed", unusable.problem, missing=unusable.missing))
                continue
            questions[index] = interview.comparison(conversation, first, second, rubric.criteria, answer.text)

        def stored(question: JudgeRequest, row: Judgement) -> Verdict:
            self.cached += 1
            return interview.stored_verdict(question, row)

        def found(index: int, verdict: Verdict) -> None:
            if own_answer := questions[index].own_answer:
                verdict = replace(verdict, reason=f"own answer: {own_answer}\n{verdict.reason}".rstrip())
            decided(index, verdict)

        self._ask(questions, stored, lambda question, reply: self._received(interview, question, reply), found)

    def ask_own(
        self,
        conversations: Sequence[Messages],
        max_tokens: int,
        read: Callable[[str], Preparation],
        decided: Callable[[int, Preparation], None],
    ) -> None:
        """Ask questions of the caller's own, each sent once; `decided` gets what `read` makes of each reply's text.

        The judge's prompt is not used. A request that fails is `missing`, and is asked again by the next run.

        Args:
            conversations: to send, different ones or the same.
            max_tokens: of a reply, besides thinking.

        Raises:
            ConfigError: the settings ask for log-probabilities or an answer of the judge's own.
            EngineError: the endpoint refuses every request, or cannot be reached any more.
        """
        if self._settings.logprobs or self._settings.commit_first:
            raise ConfigError("--logprobs and --commit-first are for palate's own questions, not for a benchmark's")
        if not conversations:
            return
        interview = self._interview()
        asked = [interview.own(conversation, max_tokens) for conversation in conversations]
        self._texts(interview, "own", asked, read, decided)

    def check_model(self) -> None:
        """As `Engine.check_model`: before long work whose results the judge is to compare."""
        self._client.engine.check_model()

    def endpoint(self) -> ProbedEndpoint:
        """What the endpoint is and can do, from the store or by asking it.

        Raises:
            EngineError: it cannot be reached, or refuses the model.
        """
        if self._endpoint is None:
            engine = self._client.engine
            facts = identifying_facts(engine.model_facts())
            known = self._judgements.endpoint(endpoint_identity(engine.base_url, engine.name, facts), engine.base_url)
            if known is None:
                known = probe_endpoint(engine, facts, sent=self.meter.probed)
                if known.certain:
                    self._judgements.add_endpoint(known)
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
    def answer_settings(self) -> list[float | int]:
        """What determines its replies besides the model and the question."""
        return [self._settings.temperature, self._settings.thinking_budget]

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of its prompt."""
        return self.prompt.sha256

    @property
    def concurrency(self) -> int:
        """Most requests at once."""
        return self._client.engine.most_in_flight

    @property
    def answered(self) -> dict[str, int]:
        """URL of each endpoint → number of requests that it answered."""
        return self._client.engine.answered

    def _interview(self) -> Interview:
        endpoint = self.endpoint()
        if self._settings.logprobs and not endpoint.logprobs:
            raise ConfigError(f"--logprobs: {endpoint.model} at {endpoint.base_url} returns no log-probabilities")
        return Interview(self.prompt, self._settings, endpoint)

    def _received(self, interview: Interview, question: JudgeRequest, reply: ChatReply) -> Verdict:
        """The verdict of a reply, which is stored first."""
        if reply.error:
            return Verdict("unparsed", clean(reply.error), missing=True)
        verdict = interview.verdict(question, reply)
        request = interview.description(question, reply)
        if self._settings.logprobs:
            request["reason"] = verdict.reason
        self._judgements.add(
            question.key,
            self.name,
            request,
            reply,
            reply_text(reply)[0],
            verdict.outcome,
            probability=verdict.probability_left,
            error=verdict.reason if verdict.outcome == "unparsed" else None,
        )
        return verdict

    def _prepare(
        self, interview: Interview, kind: PreparationKind, conversations: Iterable[str]
    ) -> dict[str, Preparation]:
        """Conversation → what the judge wrote about it, each asked for once."""
        asked = list(dict.fromkeys(conversations))
        made: dict[int, Preparation] = {}
        requests = [interview.preparation(kind, conversation) for conversation in asked]
        self._texts(interview, kind, requests, lambda text: read_preparation(kind, text), made.__setitem__)
        found = {conversation: made[number] for number, conversation in enumerate(asked)}
        if kind == "rubric":
            self._keep_rubrics(found)
        return found

    def _texts(
        self,
        interview: Interview,
        outcome: str,
        questions: Sequence[JudgeRequest],
        read: Callable[[str], Preparation],
        decided: Callable[[int, Preparation], None],
    ) -> None:
        """What is read of the replies to requests without two answers."""

        def stored(_question: JudgeRequest, row: Judgement) -> Preparation:
            return read(row.text) if row.error is None else Preparation(problem=row.error)

        def received(question: JudgeRequest, reply: ChatReply) -> Preparation:
            if reply.error:
                return Preparation(problem=clean(reply.error), missing=True)
            text, problem = reply_text(reply)
            made = Preparation(problem=problem) if problem else read(text)
            request = interview.description(question, reply)
            if outcome == "own":
                request["prompt"] = None
            self._judgements.add(question.key, self.name, request, reply, text, outcome, error=made.problem or None)
            return made

        self._ask(dict(enumerate(questions)), stored, received, decided)

    def _ask(
        self,
        questions: Mapping[int, JudgeRequest],
        stored: Callable[[JudgeRequest, Judgement], T],
        received: Callable[[JudgeRequest, ChatReply], T],
        decided: Callable[[int, T], None],
    ) -> None:
        """Decide each question, first by the replies in the store, then by asking; equal questions are asked once."""
        places: dict[str, list[int]] = {}
        for index, question in questions.items():
            places.setdefault(question.key, []).append(index)
        known = self._judgements.known(list(places))
        for key, row in known.items():
            for index in places[key]:
                decided(index, stored(questions[index], row))
        waiting = [indices for key, indices in places.items() if key not in known]

        def arrived(number: int, reply: ChatReply) -> None:
            found = received(questions[waiting[number][0]], reply)
            for index in waiting[number]:
                decided(index, found)

        replies = self._client.ask([questions[indices[0]].request for indices in waiting], arrived)
        for number, reply in enumerate(replies):
            if not reply.asked:
                arrived(number, reply)

    def _keep_rubrics(self, found: Mapping[str, Preparation]) -> None:
        """Append the criteria of new prompts to the file of rubrics."""
        path = self._settings.rubrics
        if path is None:
            return
        have = {(row.get("prompt_sha256"), row.get("who")) for row in (read_jsonl(path) if path.exists() else ())}
        with JsonlWriter(path) as file:
            for conversation, preparation in found.items():
                key = sha256(conversation)
                if not preparation.problem and (key, self.name) not in have:
                    row = {"prompt_sha256": key, "prompt": conversation, "criteria": list(preparation.criteria)}
                    file.write({**row, "who": self.name, "when": now()})


def _tools(columns: Columns | None, count: int) -> Sequence[str | None]:
    """The tools of each row, as JSON text."""
    given = (columns or {}).get("tools") or [None] * count
    return [tools if isinstance(tools, str) or tools is None else json.dumps(tools) for tools in given]
