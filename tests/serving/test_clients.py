"""Clients as they are: the official openai client, and what Open WebUI sends."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import openai
import pytest
from openai import OpenAI

from gateways import ASK, Fake, events, rows, serving, states, texts
from palate.serving.problems import ApiError
from palate.store import Store


def client(url: str, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def test_openai_client_whole_and_streamed(store: Store) -> None:
    with serving(store, Fake()) as url, client(url) as api:
        whole = api.chat.completions.create(**ASK)  # type: ignore[call-overload]
        assert whole.choices[0].message.content == "One two three"
        assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("stop", 3)
        chunks = list(api.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
        said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert said == ["One", " two", " three", None]
        assert chunks[-1].usage.prompt_tokens == 5
        assert {chunk.id for chunk in chunks} == {chunks[0].id}
        assert not any(chunk.usage for chunk in api.chat.completions.create(**ASK, stream=True))  # type: ignore[call-overload]
        text = api.completions.create(model="m", prompt="Say", n=2)
        assert [choice.text for choice in text.choices] == ["One two three"] * 2
    assert states(store, 4) == ["complete"] * 4
    first = rows(store)[0]
    assert (first.id, first.model, first.identity) == (whole.id, "v1", "hash-of-v1")
    assert (first.prompt, first.prompt_tokens, first.completion_tokens) == (ASK["messages"], 5, 3)
    assert texts(store, first.id) == ["One two three"]
    assert texts(store, chunks[0].id) == ["One two three"]


def test_openai_client_responses(sqlite_store: Store) -> None:
    backend = Fake()
    with serving(sqlite_store, backend) as url, client(url) as api:
        whole = api.responses.create(model="m", input="Hello", instructions="Be brief.", max_output_tokens=9)
        assert (whole.output_text, whole.status) == ("One two three", "completed")
        assert (whole.usage.input_tokens, whole.usage.output_tokens) == (5, 3)  # type: ignore[union-attr]
        with api.responses.stream(
            model="m", input=[{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
        ) as stream:
            kinds = [event.type for event in stream]
            last = stream.get_final_response()
        with pytest.raises(openai.BadRequestError, match="keeps no responses"):
            api.responses.create(model="m", input="x", previous_response_id="resp_1")
        picture = {"type": "input_image", "image_url": "data:image/png;base64,AA"}
        with pytest.raises(openai.BadRequestError, match="only parts of text"):
            api.responses.create(model="m", input=[{"role": "user", "content": [picture]}])  # type: ignore[list-item]
        for name, value in {
            "tools": [{"type": "web_search"}],
            "background": True,
            "reasoning": {"effort": "low"},
        }.items():
            with pytest.raises(openai.BadRequestError, match=name):
                api.responses.create(model="m", input="x", extra_body={name: value})
        with pytest.raises(openai.BadRequestError, match="stop"):
            api.responses.create(model="m", input="x", extra_body={"stop": "."})
        api.responses.create(model="m", input="not kept", store=False)
    assert last.output_text == "One two three"
    assert last.status == "completed"
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 3
    assert backend.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert backend.bodies[0]["max_tokens"] == 9
    assert states(sqlite_store, 2) == ["complete"] * 2
    assert [(row.endpoint, row.id) for row in rows(sqlite_store)] == [("responses", whole.id), ("responses", last.id)]


def test_a_sequence_of_open_webui(sqlite_store: Store) -> None:
    """Models, a streamed chat that the person stops, the title of the chat, and two answers."""
    backend = Fake(words=("Word",) * 50, seconds=0.02)
    with serving(sqlite_store, backend) as url, httpx2.Client(base_url=f"{url}/v1") as web:
        assert [model["id"] for model in web.get("/models").json()["data"]] == ["m"]
        with web.stream("POST", "/chat/completions", json={**ASK, "stream": True}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            for line in response.iter_lines():
                if "Word" in line:
                    break
        assert states(sqlite_store) == ["cancelled"]
        backend.seconds = 0.0
        title = web.post("/chat/completions", json={**ASK, "stream": False, "max_completion_tokens": 1000}).json()
        assert title["object"] == "chat.completion"
        two = web.post("/chat/completions", json={**ASK, "n": 2, "stream": True}).text
        assert {c["index"] for event in events(two)[:-1] for c in event["choices"]} == {0, 1}
        assert events(two)[-1] == "[DONE]"
    assert states(sqlite_store, 3)[1:] == ["complete"] * 2
    assert len(texts(sqlite_store, rows(sqlite_store)[2].id)) == 2


def test_feedback_on_a_recorded_completion(store: Store) -> None:
    with serving(store, Fake()) as url, httpx2.Client(base_url=f"{url}/v1") as web:
        reply = web.post("/chat/completions", json=ASK)
        token = reply.headers["x-palate-feedback-token"]
        assert reply.json()["palate"]["feedback_token"] == token
        sent = web.post("/feedback", json={"token": token, "thumbs": "up"})
        assert (sent.status_code, sent.json()["completion"]) == (200, reply.json()["id"])
        assert web.post("/feedback", json={"token": token + "0", "thumbs": "up"}).status_code == 403
        streamed = web.post("/chat/completions", json={**ASK, "stream": True})
        assert events(streamed.text)[0]["palate"]["feedback_token"] == streamed.headers["x-palate-feedback-token"]
        two = web.post("/chat/completions", json=ASK, headers={"x-palate-answers": "2"})
        assert len(two.json()["choices"]) == 2
        better = {"token": two.headers["x-palate-feedback-token"], "chosen": 1}
        states(store, 3)
        assert web.post("/feedback", json=better).status_code == 200
        unrecorded = web.post("/chat/completions", json={**ASK, "store": False})
        assert "x-palate-feedback-token" not in unrecorded.headers
        assert "palate" not in unrecorded.json()
    assert len(rows(store)) == 3


@pytest.mark.parametrize("record", ["none", "metadata"])
def test_what_is_not_to_be_recorded_is_not_on_the_disk(tmp_path: Path, sqlite_store: Store, record: str) -> None:
    with serving(sqlite_store, Fake(words=("CANARY-9",)), record=record) as url:
        asked = {"model": "m", "messages": [{"role": "user", "content": "CANARY-7"}], "user": "CANARY-8"}
        for stream in (False, True):
            assert httpx2.post(f"{url}/v1/chat/completions", json={**asked, "stream": stream}).status_code == 200
        metrics = httpx2.get(f"{url}/metrics").text
        found = [] if record == "none" else states(sqlite_store, 2)
    sqlite_store.close()
    assert found == ([] if record == "none" else ["complete"] * 2)
    assert "CANARY" not in metrics
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    assert not any(b"CANARY" in file.read_bytes() for file in files)


def test_errors_have_openais_form(sqlite_store: Store) -> None:
    with serving(sqlite_store, Fake(), max_n=3) as url, client(url) as api:
        with pytest.raises(openai.NotFoundError) as refused:
            api.chat.completions.create(model="other", messages=ASK["messages"])  # type: ignore[arg-type]
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        assert "there are m" in refused.value.message
        with pytest.raises(openai.BadRequestError) as refused:
            api.chat.completions.create(**ASK, temperature=3)  # type: ignore[call-overload]
        assert refused.value.param == "temperature"
        with pytest.raises(openai.BadRequestError, match="at most 3"):
            api.chat.completions.create(**ASK, n=4)  # type: ignore[call-overload]
        image = {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}
        with pytest.raises(openai.BadRequestError, match="messages"):
            api.chat.completions.create(model="m", messages=[{"role": "user", "content": [image]}])  # type: ignore[list-item,misc]


def test_an_answer_that_breaks_off_is_an_error_in_the_stream(sqlite_store: Store) -> None:
    backend = Fake(error=ApiError(502, "the engine behind v1 failed: cut", code="upstream_error"))
    with serving(sqlite_store, backend) as url, client(url) as api:
        got = []
        with pytest.raises(openai.APIError, match="failed: cut"):  # noqa: PT012 - after the chunks
            for chunk in api.chat.completions.create(**ASK, stream=True):  # type: ignore[call-overload]
                got.append(chunk.choices[0].delta.content)
        assert got == ["One", " two", " three"]
        with pytest.raises(openai.InternalServerError):
            api.chat.completions.create(**ASK)  # type: ignore[call-overload]
        failed = events(httpx2.post(f"{url}/v1/responses", json={"model": "m", "input": "x", "stream": True}).text)[-1]
        assert failed["type"] == "response.failed"
        assert failed["response"]["error"]["code"] == "upstream_error"
    assert states(sqlite_store, 3) == ["upstream_error"] * 3
    assert texts(sqlite_store, rows(sqlite_store)[0].id) == ["One two three"]
    assert json.dumps(rows(sqlite_store)[0].error) == '"the engine behind v1 failed: cut"'
