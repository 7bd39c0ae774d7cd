"""The gateway in front of a real llama.cpp server, which ignores `n` and counts no tokens of streams."""

from __future__ import annotations

import pytest
from openai import OpenAI

from gateways import ASK, rows, serving, states, texts
from llama_server import llama_url
from palate.serving.backends.upstream import Upstream
from palate.serving.settings import ServedModelFields
from palate.store import Store

pytestmark = pytest.mark.slow
__all__ = ["llama_url"]


def test_two_answers_whole_and_streamed(llama_url: str, sqlite_store: Store) -> None:
    engine = Upstream("smollm2", ServedModelFields(upstream=llama_url))
    asked = {**ASK, "n": 2, "max_tokens": 12, "temperature": 1.0}
    with serving(sqlite_store, engine) as url, OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as api:
        whole = api.chat.completions.create(**asked)  # type: ignore[call-overload]
        chunks = list(api.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    said = [choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert all(said)
    assert said[0] != said[1]
    streamed = ["", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert all(streamed)
    assert streamed[0] != streamed[1]
    assert chunks[-1].usage is not None
    assert 4 <= chunks[-1].usage.completion_tokens <= 24
    assert states(sqlite_store, 2) == ["complete"] * 2
    first, second = rows(sqlite_store)
    assert texts(sqlite_store, first.id) == said
    assert texts(sqlite_store, second.id) == streamed
    assert first.prompt_tokens == whole.usage.prompt_tokens
    assert second.completion_tokens == chunks[-1].usage.completion_tokens
