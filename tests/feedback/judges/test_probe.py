"""What an endpoint can do is found by asking it, not believed."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from werkzeug import Response

from chat_server import ABILITIES, ChatServer, completion
from palate.errors import EngineError, EngineRefused
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.cache import PROBE_DAYS, Judgements
from palate.feedback.judges.probe import ProbedEndpoint, endpoint_identity, probe_endpoint
from palate.feedback.judges.settings import ApiSettings
from palate.models.generation.endpoints.endpoint import identifying_facts
from palate.models.generation.endpoints.engine import Engine
from palate.store import open_store
from palate.store.tables import EndpointRow

pytestmark = pytest.mark.usefixtures("waits")


def probed(endpoint: ChatServer, **how: Any) -> ProbedEndpoint:
    engine = Engine(endpoint.url, "m", attempts=2)
    return probe_endpoint(engine, identifying_facts(engine.model_facts()), **how)


def test_an_endpoint_that_can_do_everything(endpoint: ChatServer) -> None:
    found = probed(endpoint)
    assert (found.schema, found.json_mode, found.logprobs, found.choices, found.seed) == (True,) * 5
    assert (found.tokens_field, found.temperature, found.thinks, found.certain) == ("max_tokens", True, False, True)
    assert found.requests == len(endpoint.probes) == 6
    assert ProbedEndpoint.from_json({**asdict(found), "of a later version": 1}) == found


def test_what_is_accepted_and_ignored_is_not_believed(endpoint: ChatServer) -> None:
    endpoint.abilities = frozenset({"max_tokens", "temperature"})
    found = probed(endpoint)
    assert (found.schema, found.json_mode, found.logprobs, found.choices) == (False,) * 4


def test_parameters_of_newer_models(endpoint: ChatServer) -> None:
    endpoint.abilities = ABILITIES - {"max_tokens", "temperature"}
    found = probed(endpoint)
    assert (found.tokens_field, found.temperature) == ("max_completion_tokens", False)
    assert found.schema


def test_a_model_that_thinks_only_without_json(endpoint: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = endpoint._probe

    def thinks(body: dict[str, Any]) -> Any:
        return usual(body) if "response_format" in body else completion("A", message={"reasoning_content": "hm"})

    monkeypatch.setattr(endpoint, "_probe", thinks)
    found = probed(endpoint)
    assert (found.thinks, found.json_stops_thinking) == (True, True)


@pytest.mark.parametrize(("status", "certain"), [(503, False), (500, True)])
def test_a_feature_of_a_busy_endpoint_is_asked_for_again_next_time(
    endpoint: ChatServer, monkeypatch: pytest.MonkeyPatch, status: int, certain: bool
) -> None:
    usual = endpoint._probe

    def fails(body: dict[str, Any]) -> Any:
        return Response("", status) if "response_format" in body else usual(body)

    monkeypatch.setattr(endpoint, "_probe", fails)
    found = probed(endpoint)
    assert (found.schema, found.json_mode, found.logprobs, found.certain) == (False, False, True, certain)


def test_an_endpoint_without_the_model_is_refused(endpoint: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_probe", lambda _: Response('{"error": {"message": "no model m"}}', 404))
    with pytest.raises(EngineRefused, match="no model m"):
        probed(endpoint)
    assert len(endpoint.probes) == 1


def test_an_endpoint_that_is_away_says_so() -> None:
    with pytest.raises(EngineError, match="cannot be reached"):
        Engine("http://127.0.0.1:9/v1", "m", attempts=1).model_facts()


def test_the_identity_is_of_the_model_and_not_of_the_time_or_the_port(endpoint: ChatServer) -> None:
    first, second = probed(endpoint), probed(endpoint)
    assert endpoint.listed["created"] == 2
    assert first.identity == second.identity == replace(first, base_url="http://other/v1").identity
    endpoint.listed["root"] = "weights-2"
    assert probed(endpoint).identity != first.identity
    # Without facts, the URL is all that is known.
    assert endpoint_identity("http://a/v1", "m", {}) != endpoint_identity("http://b/v1", "m", {})


def test_an_endpoint_is_kept_in_the_store(endpoint: ChatServer) -> None:
    found = probed(endpoint)
    judgements = Judgements()
    assert judgements.endpoint(found.identity, found.base_url) is None
    judgements.add_endpoint(found)
    judgements.add_endpoint(found)  # another process did the same
    assert Judgements().endpoint(found.identity, found.base_url) == found


def test_an_old_probe_is_made_again(endpoint: ChatServer) -> None:
    """The server was started with log-probabilities, and says the same of its model as before."""
    endpoint.abilities = ABILITIES - {"logprobs"}
    judge = ApiJudge("m", ApiSettings(base_url=endpoint.url))
    assert not judge.endpoint().logprobs
    endpoint.abilities = ABILITIES
    probes = len(endpoint.probes)
    assert not ApiJudge("m", ApiSettings(base_url=endpoint.url)).endpoint().logprobs, "a probe of this week holds"
    assert len(endpoint.probes) == probes
    store = open_store(None)
    old = datetime.now(UTC) - timedelta(days=PROBE_DAYS, minutes=1)
    store.write(lambda session: session.execute(update(EndpointRow).values(at=old)))
    for _ in range(2):  # the new probe is kept in place of the old one
        assert ApiJudge("m", ApiSettings(base_url=endpoint.url)).endpoint().logprobs
        assert len(endpoint.probes) == probes + 6
    store.close()


def test_the_requests_are_counted(endpoint: ChatServer) -> None:
    replies: list[Any] = []
    probed(endpoint, sent=replies.append)
    assert [reply.prompt_tokens for reply in replies] == [100] * 6
