"""The clients of the server benchmark read whole answers, and its figures are those of the answers."""

from __future__ import annotations

import asyncio
import threading

import pytest
import serve
from tables import serve_table

from engines import GOOD, serving


def test_every_client_asks_one_prompt_after_another() -> None:
    with serving() as engine:
        engine.words, engine.pause = 3, 0.02
        request = {"model": "m", "stream": True, "seed": 1}
        replies = asyncio.run(serve.ask_all(engine.url, request, [f"question {n}" for n in range(5)], 2))
        most = threading.active_count()
    assert [reply.text for reply in replies] == [f"{GOOD} on on on"] * 5
    assert {chat["messages"][0]["content"] for chat in engine.chats} == {f"question {n}" for n in range(5)}
    assert all(0.02 < reply.first < reply.seconds for reply in replies)
    assert most < 10


def test_figures_by_hand() -> None:
    found = serve.figures(60, 4.0, [0.4, 0.1, 0.2, 0.3])
    assert found["tokens_per_second"] == 15
    assert found["first_p50"] == pytest.approx(0.25)
    assert found["first_p95"] == 0.4


def test_the_table_compares_with_the_last_side() -> None:
    fast, slow = (serve.levels({4: [serve.figures(tokens, 2.0, [0.05])]}) for tokens in (300, 100))
    settings = {"precision": "fp32", "rounds": 1}
    result = {"benchmark": "serve", "settings": settings, "sides": {"palate": fast, "transformers": slow}}
    table = serve_table([{**result, "machine": {"cpu": "x", "products": {}}}])
    assert "| palate, 4 streams, fp32 | 150 | 3.00× | 50 | 50 | 300 | 1 |" in table
    assert "| transformers, 4 streams, fp32 | 50 | 1.00× |" in table
