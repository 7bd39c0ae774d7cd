"""What an endpoint can do, found by asking it; and what it says its model is.

Endpoints accept fields of the OpenAI API that they then ignore, so the replies are checked: a schema that is enforced
turns a request for prose into JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from palate.artifacts import json_hash
from palate.errors import EngineError, EngineRefused
from palate.feedback.judges.chat import without_thinking
from palate.models.generation.endpoints.completion import Completion
from palate.models.generation.endpoints.engine import Engine
from palate.models.generation.endpoints.pool import read_endpoints

PROBE_TOKENS = 256

_ATTEMPTS = 3
_LETTER = "Answer with the single letter A."
_PROSE = "Write one sentence about rain."
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"verdict": {"type": "string", "enum": ["A", "B"]}},
            "required": ["verdict"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True, slots=True)
class ProbedEndpoint:
    """An endpoint's model and abilities.

    Attributes:
        base_url, model: as given.
        facts: what its list of models says about the model, but for times.
        tokens_field: the name of the length limit, `max_tokens` or `max_completion_tokens`.
        temperature: whether temperature 0 is accepted.
        seed: whether a seed is accepted; whether it has an effect is not known.
        schema: whether a strict JSON schema is enforced.
        json_mode: whether JSON is returned on request.
        logprobs: whether the replies have log-probabilities of the likeliest tokens.
        choices: whether several replies to one request can be asked for (n).
        thinks: whether the model thought before its reply.
        json_stops_thinking: whether it did not think when JSON was asked for.
        certain: whether every request of the probe was answered or refused; else it is repeated in the next run.
        requests: number of requests that the probe sent.
    """

    base_url: str
    model: str
    facts: Mapping[str, Any]
    tokens_field: str = "max_tokens"
    temperature: bool = True
    seed: bool = False
    schema: bool = False
    json_mode: bool = False
    logprobs: bool = False
    choices: bool = False
    thinks: bool = False
    json_stops_thinking: bool = False
    certain: bool = True
    requests: int = 0

    @property
    def identity(self) -> str:
        """SHA-256 of what the endpoint says its model is; of its URL and the model's name if it says nothing."""
        return endpoint_identity(self.base_url, self.model, self.facts)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ProbedEndpoint:
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in row.items() if name in known})


def endpoint_identity(base_url: str, model: str, facts: Mapping[str, Any]) -> str:
    """SHA-256 of the model's name with what is known of it; if nothing is, with its URL, the first of several."""
    known = facts if facts else {"base_url": read_endpoints(base_url)[0][0]}
    return json_hash([model, known])


def probe_endpoint(
    engine: Engine, facts: Mapping[str, Any], *, sent: Callable[[Completion | None], None] = lambda _: None
) -> ProbedEndpoint:
    """Ask the endpoint what it can do, in about seven short requests.

    Args:
        facts: what the list of models says about the model and would say again after a restart.
        sent: called for each request, with its reply, to count them.

    Raises:
        EngineRefused: it refuses even the simplest request.
        EngineError: it cannot be reached.
    """
    probe = _Probe(engine, sent)
    first = probe.first()
    schema = probe.reply(_PROSE, response_format=_SCHEMA)
    as_json = probe.reply(
        'Reply with a JSON object with the key "verdict" and the value "A".', response_format={"type": "json_object"}
    )
    letters = probe.reply(_LETTER, logprobs=True, top_logprobs=5)
    several = probe.reply(_LETTER, n=2)
    seeded = probe.reply(_LETTER, seed=1)
    thinks = _thinks(first)
    json_replies = [reply for reply in (schema, as_json) if reply is not None]
    return ProbedEndpoint(
        engine.base_url,
        engine.name,
        facts,
        tokens_field=probe.tokens_field,
        temperature=probe.temperature,
        seed=seeded is not None,
        schema=_has_verdict(schema, ("A", "B")),
        json_mode=_has_verdict(as_json, None),
        logprobs=letters is not None and _are_logprobs(letters),
        choices=several is not None and several.choices == 2,
        thinks=thinks,
        json_stops_thinking=thinks and bool(json_replies) and not any(map(_thinks, json_replies)),
        certain=probe.certain,
        requests=probe.requests,
    )


class _Probe:
    def __init__(self, engine: Engine, sent: Callable[[Completion | None], None]) -> None:
        self._engine = engine
        self._sent = sent
        self.tokens_field = "max_tokens"
        self.temperature = True
        self.certain = True
        self.requests = 0

    def first(self) -> Completion:
        """The reply to the simplest request, whose parameters are changed until the endpoint accepts them."""
        refused: EngineRefused | None = None
        for temperature in (True, False):
            for tokens_field in ("max_tokens", "max_completion_tokens"):
                self.temperature, self.tokens_field = temperature, tokens_field
                try:
                    return self._ask(_LETTER)
                except EngineRefused as error:
                    refused = refused or error
                    if error.status not in (400, 422):
                        raise
        assert refused is not None
        raise refused

    def reply(self, text: str, **more: Any) -> Completion | None:
        """The reply, or None if the endpoint refuses the parameters. Some do with a 500 (llama-cpp-python)."""
        try:
            return self._ask(text, **more)
        except EngineRefused:
            return None
        except EngineError as error:
            self.certain = self.certain and error.status in (500, 501)
            return None

    def _ask(self, text: str, **more: Any) -> Completion:
        request = {"messages": [{"role": "user", "content": text}], self.tokens_field: PROBE_TOKENS, **more}
        if self.temperature:
            request["temperature"] = 0.0
        self.requests += 1
        found: Completion | None = None
        try:
            found = self._engine.complete(request, attempts=_ATTEMPTS)
        finally:
            self._sent(found)
        return found


def _has_verdict(reply: Completion | None, allowed: tuple[str, ...] | None) -> bool:
    if reply is None:
        return False
    try:
        found = json.loads(without_thinking(reply.text)[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "verdict" in found and (allowed is None or found["verdict"] in allowed)


def _are_logprobs(reply: Completion) -> bool:
    """Whether each place has several finite log-probabilities that are no more than 0."""
    values = [logprob for token in reply.tokens for _, logprob in token.top]
    return bool(values) and all(math.isfinite(value) and value <= 1e-3 for value in values)


def _thinks(reply: Completion) -> bool:
    return bool(reply.reasoning) or without_thinking(reply.text)[1]
