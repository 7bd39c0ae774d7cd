"""A model in this process behind the API: the same answers as `generate`, and nothing it does not obey is ignored."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from openai import OpenAI
from starlette.testclient import TestClient

from gateways import ASK, eventually, make_gateway, serving, states
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.generation.local.generate import generate
from palate.serving.backends import local
from palate.serving.backends.local import Local, load_local
from palate.serving.settings import ServedModelFields
from palate.store import Store
from tiny import save_tiny

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("served") / "tiny-v1", max_position_embeddings=512)


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[Local]:
    made = load_local(folder, ServedModelFields(model=str(folder), precision="fp32", max_rows=4), max_tokens=300)
    made.close_at_end = made.close  # type: ignore[attr-defined]
    made.close = lambda: asyncio.sleep(0)  # type: ignore[method-assign,assignment,return-value]  # of one gateway
    yield made
    asyncio.run(made.close_at_end())  # type: ignore[attr-defined]


@pytest.fixture
def api(backend: Local, sqlite_store: Store) -> Iterator[OpenAI]:
    with serving(sqlite_store, backend) as url, OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as made:
        yield made


def expected(backend: Local, *, seed: int, tokens: int, temperature: float = 1.0) -> tuple[list[int], str]:
    from palate.records import Message

    prompt = backend._template.generation_prompt((Message("user", "Say something."),))
    model: Any = backend._batch._model  # type: ignore[attr-defined]
    (ids,) = generate(
        model,
        [prompt],
        Decoding(tokens, temperature),
        stop_ids=backend._template.stop_ids,
        precision=backend._batch._precision,
        seeds=[seed],  # type: ignore[attr-defined]
    )
    return ids, backend._template.decode(ids)


def test_answers_are_those_of_generate(api: OpenAI, backend: Local, sqlite_store: Store) -> None:
    reply = api.chat.completions.create(**ASK, n=3, seed=7, max_tokens=12)  # type: ignore[call-overload]
    for index, choice in enumerate(reply.choices):
        ids, text = expected(backend, seed=sampling_seed(7, index) if index else 7, tokens=12)
        assert choice.message.content == text
        assert choice.finish_reason == ("length" if len(ids) == 12 else "stop")
    streamed = [""] * 3
    for chunk in api.chat.completions.create(**ASK, n=3, seed=7, max_tokens=12, stream=True):  # type: ignore[call-overload]
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == [choice.message.content for choice in reply.choices]
    assert reply.model == "tiny-v1"
    states(sqlite_store, 2)


def test_log_probabilities_are_the_models(api: OpenAI, backend: Local) -> None:
    reply = api.chat.completions.create(**ASK, temperature=0, max_tokens=5, logprobs=True, top_logprobs=3)  # type: ignore[call-overload]
    ids, _ = expected(backend, seed=0, tokens=5, temperature=0.0)
    from palate.records import Message

    prompt = backend._template.generation_prompt((Message("user", "Say something."),))
    model: Any = backend._batch._model  # type: ignore[attr-defined]
    with torch.no_grad():
        logps = model(input_ids=torch.tensor([prompt + ids])).logits[0].float().log_softmax(-1)
    content = reply.choices[0].logprobs.content
    kept = [token for token in ids if token not in backend._template.stop_ids]
    assert len(content) == len(kept)
    for place, (entry, token) in enumerate(zip(content, kept, strict=True)):
        assert entry.logprob == pytest.approx(float(logps[len(prompt) - 1 + place, token]), abs=1e-3)
        assert [one.logprob for one in entry.top_logprobs] == sorted(
            (one.logprob for one in entry.top_logprobs), reverse=True
        )
        assert entry.top_logprobs[0].token == entry.token  # greedy
    text = api.completions.create(model="m", prompt="the answer", logprobs=2, max_tokens=4, temperature=0)
    found = text.choices[0].logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.text_offset) >= 1  # type: ignore[union-attr,arg-type]


def test_text_completions_read_texts_and_ids(api: OpenAI, backend: Local) -> None:
    ids = backend._template.token_ids("the answer")
    one = api.completions.create(model="m", prompt="the answer", seed=3, max_tokens=6)
    same = api.completions.create(model="m", prompt=ids, seed=3, max_tokens=6)
    two = api.completions.create(model="m", prompt=["the answer", "this is"], seed=3, max_tokens=6, n=2)
    assert one.choices[0].text == same.choices[0].text == two.choices[0].text
    assert [choice.index for choice in two.choices] == [0, 1, 2, 3]
    assert two.usage.prompt_tokens == len(ids) + len(backend._template.token_ids("this is"))  # type: ignore[union-attr]


def test_a_stop_text_ends_the_answer_before_it(api: OpenAI, backend: Local) -> None:
    _, text = expected(backend, seed=11, tokens=60)
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    for stream in (False, True):
        reply: Any = api.chat.completions.create(**ASK, seed=11, max_tokens=60, stop=[stop, "never"], stream=stream)  # type: ignore[call-overload]
        if stream:
            chunks = [chunk.choices[0] for chunk in reply]
            got, reason = "".join(c.delta.content or "" for c in chunks), chunks[-1].finish_reason
        else:
            got, reason = reply.choices[0].message.content, reply.choices[0].finish_reason
        assert (got, reason) == (text[: text.index(stop)], "stop")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frequency_penalty", 0.5),
        ("logit_bias", {"5": 10}),
        ("response_format", {"type": "json_object"}),
        ("tool_choice", "required"),
        ("top_k", 5),
        ("reasoning_effort", "low"),
        ("something_new", 1),
        ("top_logprobs", 2),
        ("max_tokens", 301),
    ],
)
def test_what_it_does_not_obey_is_refused_by_name(api: OpenAI, name: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        api.chat.completions.create(**ASK, extra_body={name: value})  # type: ignore[call-overload]
    assert refused.value.param == name


def test_harmless_parameters_and_tools(api: OpenAI) -> None:
    extra = {
        "frequency_penalty": 0,
        "metadata": {"a": "b"},
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
    }
    reply = api.chat.completions.create(**ASK, max_tokens=2, tools=[TOOL], user="u", extra_body=extra)  # type: ignore[call-overload]
    assert reply.usage.completion_tokens <= 2


def test_a_prompt_without_room_and_a_template_that_refuses(api: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        api.chat.completions.create(model="m", messages=[{"role": "user", "content": "word " * 2000}])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="no tokens"):
        api.completions.create(model="m", prompt=[])
    with pytest.raises(openai.BadRequestError, match="no embedding"):
        api.completions.create(model="m", prompt=[999_999])


def test_a_client_that_leaves_frees_its_row(api: OpenAI, backend: Local, sqlite_store: Store) -> None:
    batch: Any = backend._batch
    with api.chat.completions.create(**ASK, stream=True, max_tokens=300, n=4, temperature=2) as stream:  # type: ignore[call-overload]
        next(iter(stream))
        assert len(batch._running) + len(batch._reading) + len(batch._waiting) > 0
    assert eventually(lambda: not (batch._running or batch._reading or batch._waiting))
    assert states(sqlite_store) in (["cancelled"], ["complete"])


def test_a_slow_reader_is_given_up_and_its_memory_bounded(backend: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_UNREAD", 5)

    async def slow() -> None:
        body = {"messages": ASK["messages"], "max_tokens": 300, "temperature": 2, "seed": 1}
        async with contextlib.aclosing(backend.events("chat/completions", body)) as chunks:
            async for _ in chunks:
                await asyncio.sleep(0.5)

    with pytest.raises(Exception, match="reads too slowly"):
        asyncio.run(slow())


def test_requests_of_any_shape_are_answered_or_refused(backend: Local, sqlite_store: Store) -> None:
    """JSON that was changed at random, and bytes that are no JSON: never a 500."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["m", "user", "\x00"]),
    )
    values = st.recursive(
        leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3), max_leaves=6
    )
    keys = st.sampled_from(
        [
            "model",
            "messages",
            "prompt",
            "input",
            "stream",
            "stream_options",
            "n",
            "stop",
            "seed",
            "logprobs",
            "store",
            "top_logprobs",
            "temperature",
            "top_p",
            "tools",
            "tool_choice",
            "user",
            "metadata",
            "instructions",
            "x",
        ]
    )
    turn = st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("role", "content", "tool_calls", "name", "tool_call_id"), values)
    )
    base: dict[str, Any] = {"model": "m", "messages": ASK["messages"], "max_tokens": 1}
    bodies = st.builds(
        lambda changed, turns: {**base, **({"messages": turns} if turns else {}), **changed},
        st.dictionaries(keys, values, max_size=3),
        st.lists(turn, max_size=2),
    )
    paths = st.sampled_from(["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/feedback"])
    gateway = make_gateway(sqlite_store, {"m": backend})
    with TestClient(gateway.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as web:

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(path=paths, body=bodies)
        def check(path: str, body: Any) -> None:
            content = json.dumps(body).encode()
            reply = web.post(path, content=content, headers={"Content-Type": "application/json"})
            assert reply.status_code < 500, (path, body, reply.text)
            assert reply.status_code == 200 or reply.json().get("error"), reply.text

        check()
        for content in (
            b"[" * 100_000,
            b'{"n":' + b"9" * 5000 + b"}",
            b'{"a":NaN}',
            b'{"a":1e999}',
            b'{"model":"\\ud800"}',
            b"\xff",
        ):
            reply = web.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


def test_one_that_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    from palate.errors import PalateError

    with pytest.raises(PalateError):
        load_local(tmp_path, ServedModelFields(model=str(tmp_path)), max_tokens=10)


def test_a_closed_model_is_503(folder: Path, sqlite_store: Store) -> None:
    made = load_local(folder, ServedModelFields(model=str(folder), precision="fp32"), max_tokens=10)
    with serving(sqlite_store, made) as url:
        asyncio.run(made.close())
        reply = httpx2.post(f"{url}/v1/chat/completions", json=ASK)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_unavailable")
        assert httpx2.get(f"{url}/health/ready").status_code == 503
