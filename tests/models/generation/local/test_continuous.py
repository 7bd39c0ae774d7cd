"""Continuous batching: every answer is the one that `generate` gives alone, and nobody waits for ever."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from palate.errors import DataError, EngineError
from palate.models.generation.decoding import Decoding
from palate.models.generation.local import continuous
from palate.models.generation.local.continuous import Batcher, Busy
from palate.models.generation.local.generate import generate
from palate.models.generation.local.request import NewToken, Ticket
from palate.models.precision import FP32
from tiny import tiny_model

STOPS = (2, 17, 40)
SECONDS = 60


@dataclass
class Heard:
    """What a receiver of an answer was told."""

    tokens: list[NewToken] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    cancel_at: int = 0
    ticket: Ticket | None = None

    def __call__(self, token: NewToken) -> None:
        assert not self.ended.is_set(), "nothing comes after the end"
        self.tokens.append(token)
        if self.ticket is not None and len(self.tokens) == self.cancel_at:
            self.ticket.cancel()
        if token.finish_reason is not None:
            self.ended.set()

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens if token.id is not None]

    @property
    def end(self) -> NewToken:
        assert self.ended.wait(SECONDS), "the answer has no end"
        return self.tokens[-1]


@dataclass
class Asked:
    prompt: list[int]
    decoding: Decoding
    seed: int


def questions(count: int, *, seed: int = 0, longest: int = 90) -> list[Asked]:
    """Prompts of different lengths, with different settings."""
    chance = random.Random(seed)
    return [
        Asked(
            [chance.randrange(3, 199) for _ in range(chance.choice([1, 2, 7, 30, longest]))],
            Decoding(chance.choice([1, 5, 20, 70]), chance.choice([0.0, 0.7, 1.0]), chance.choice([1.0, 0.9, 0.5])),
            chance.randrange(1000),
        )
        for _ in range(count)
    ]


def alone(model: Any, asked: Asked) -> list[int]:
    (ids,) = generate(model, [asked.prompt], asked.decoding, stop_ids=STOPS, precision=FP32, seeds=[asked.seed])
    return ids


def submit(batcher: Batcher, asked: Asked, heard: Heard | None = None, *, top_logprobs: int = 0) -> Heard:
    heard = heard or Heard()
    heard.ticket = batcher.submit(asked.prompt, asked.decoding, asked.seed, heard, top_logprobs=top_logprobs)
    return heard


JOINING = ("llama", "gpt2", "mistral", "gemma2", "mixtral", "bloom", "deepseek_v3", "gpt_oss")


# The CPU decoder; transformers' own forward with learned positions, a window, a window and caps, experts, ALiBi, narrow
# values, sinks; one whose rows cannot share a batch because of its recurrent layers, one because of its positions.
@pytest.mark.parametrize("kind", [*JOINING, "qwen3_5_text", "phi3"])
def test_answers_are_those_of_generate(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "_CHUNK", 16)  # prompts are read in several parts
    monkeypatch.setattr(continuous, "_CHUNK_ALONE", 24)
    model = tiny_model(kind)
    asked = questions(14 if kind in JOINING else 5, seed=len(kind))
    wanted = [alone(model, one) for one in asked]
    chance = random.Random(1)
    with Batcher(model, stop_ids=STOPS, precision=FP32, max_rows=4) as batcher:
        heard = []
        for number, one in enumerate(asked):
            gone = number % 4 == 3
            heard.append(submit(batcher, one, Heard(cancel_at=chance.randint(1, 5) if gone else 0)))
            if chance.random() < 0.5:
                heard[number // 2].ended.wait(0.05)
        for one, ids in zip(heard, wanted, strict=True):
            reason = one.end.finish_reason
            if reason == "cancelled":
                assert one.cancel_at
                assert one.ids == ids[: len(one.ids)]
                assert len(one.ids) <= one.cancel_at + 1
            else:
                assert one.ids == ids
                assert reason == ("stop" if ids[-1] in STOPS else "length")
    assert alone(model, asked[0]) == wanted[0], "the model is as it was"


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("llama")


LONG = Asked([5, 6, 7], Decoding(max_new_tokens=150, temperature=1.0), 1)


def endless(batcher: Batcher, *, most: int = 100_000) -> Heard:
    """An answer that has begun and is long."""
    heard = Heard()
    begun = threading.Event()

    def on_token(token: NewToken) -> None:
        heard(token)
        begun.set()

    heard.ticket = batcher.submit([5, 6, 7], Decoding(most, temperature=1.0), 1, on_token)
    assert begun.wait(SECONDS)
    return heard


def open_batcher(model: Any, **settings: Any) -> Batcher:
    return Batcher(model, **{"stop_ids": (), "precision": FP32, "max_tokens_in_flight": 1 << 20, **settings})


def test_fifty_threads_at_once(model: Any) -> None:
    asked = questions(50, seed=3, longest=40)
    wanted = [alone(model, one) for one in asked]
    heard = [Heard() for _ in asked]
    with open_batcher(model, stop_ids=STOPS, max_rows=8) as batcher:
        threads = [threading.Thread(target=submit, args=(batcher, *pair)) for pair in zip(asked, heard, strict=True)]
        for thread in threads:
            thread.start()
        assert [one.end.error for one in heard] == [None] * 50
    assert [one.ids for one in heard] == wanted


def test_log_probabilities_are_the_models_own(model: Any) -> None:
    asked = Asked([5, 9, 12], Decoding(12, temperature=0.7, top_p=0.8), 4)
    with open_batcher(model) as batcher:
        heard, plain = submit(batcher, asked, top_logprobs=3), submit(batcher, asked)
        assert heard.end.finish_reason == plain.end.finish_reason == "length"
    assert plain.ids == heard.ids
    assert all(token.top == () for token in plain.tokens)
    ids = torch.tensor([[*asked.prompt, *heard.ids]])
    with torch.no_grad():
        logps = model(input_ids=ids).logits[0, len(asked.prompt) - 1 : -1].log_softmax(-1)
    for token, at in zip(heard.tokens, logps, strict=True):
        assert token.logprob == pytest.approx(float(at[token.id]), abs=1e-4)
        values, tokens = at.topk(3)
        assert [one for one, _ in token.top] == tokens.tolist()
        assert [value for _, value in token.top] == pytest.approx(values.tolist(), abs=1e-4)


def test_a_row_grows_through_all_blocks_beside_others(model: Any) -> None:
    asked = [LONG, Asked([8] * 63, LONG.decoding, 2), Asked([9] * 64, LONG.decoding, 3), *questions(3, seed=9)]
    with open_batcher(model) as batcher:
        heard = [submit(batcher, one) for one in asked]
        assert [one.end.finish_reason for one in heard] == ["length"] * 6
    assert [one.ids for one in heard[:3]] == [
        generate(model, [one.prompt], one.decoding, stop_ids=(), precision=FP32, seeds=[one.seed])[0]
        for one in asked[:3]
    ]


def test_answers_begin_in_the_order_in_which_they_were_asked_for(model: Any) -> None:
    begun: list[int] = []

    def note(number: int) -> Callable[[NewToken], None]:
        return lambda token: begun.append(number) if number not in begun else None

    with open_batcher(model, max_rows=2) as batcher:
        first = endless(batcher)
        ends = []
        for number, one in enumerate(questions(9, seed=5)):
            ends.append(Heard())
            both = note(number), ends[-1]
            batcher.submit(one.prompt, one.decoding, 1, lambda token, both=both: [call(token) for call in both])  # type: ignore[misc]
        assert all(one.end for one in ends)
        assert first.ticket is not None
        first.ticket.cancel()
        assert first.end == NewToken(None, finish_reason="cancelled")
    assert begun == sorted(begun)
    assert len(begun) == 9


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_long_prompt_is_read_between_the_tokens_of_others(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "_CHUNK", 10)
    with open_batcher(tiny_model(kind)) as batcher:
        running = endless(batcher, most=500)
        counts: list[int] = []
        before = len(running.tokens)
        ended = threading.Event()

        def on_token(token: NewToken) -> None:
            counts.append(len(running.tokens))
            ended.set()

        batcher.submit([7] * 201, Decoding(1), 1, on_token)
        assert ended.wait(SECONDS)
    assert counts[0] - before >= 20, "21 chunks, and a token of the other answer with each"


def test_too_many_waiting_prompts_are_refused(model: Any) -> None:
    with open_batcher(model, max_rows=1, max_waiting=2) as batcher:
        running = endless(batcher)
        waiting = [submit(batcher, LONG) for _ in range(2)]
        with pytest.raises(Busy, match=r"^2 prompts are waiting for an answer; try again later$"):
            submit(batcher, LONG)
        assert waiting[0].ticket is not None
        waiting[0].ticket.cancel()
        assert waiting[0].end == NewToken(None, finish_reason="cancelled")
        assert submit(batcher, Asked([5], Decoding(1), 1)).ticket is not None
        assert running.ticket is not None
        running.ticket.cancel()
        assert waiting[1].end.finish_reason == "length"


@pytest.mark.parametrize(("kind", "rows"), [("llama", 3), ("gpt2", 4)])
def test_the_cache_has_no_more_tokens_than_it_may(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of 128 tokens hold 100; the model's own cache has as many columns as the longest row.
    seen: list[int] = []
    with open_batcher(tiny_model(kind), max_tokens_in_flight=400) as batcher:
        step = batcher._rows.step
        monkeypatch.setattr(
            batcher._rows, "step", lambda tokens, chunks: seen.append(len(tokens)) or step(tokens, chunks)
        )
        asked = [Asked([5] * 30, Decoding(70, temperature=1.0), seed) for seed in range(9)]
        assert {submit(batcher, one).end.finish_reason for one in asked[:1]} == {"length"}
        heard = [submit(batcher, one) for one in asked]
        assert {one.end.finish_reason for one in heard} == {"length"}
        with pytest.raises(DataError, match="30 tokens and 371 new ones are too many, the cache has room for 400"):
            submit(batcher, Asked([5] * 30, Decoding(371), 1))
    assert max(seen) == rows


def test_bad_prompts_are_refused_and_harm_nobody(model: Any) -> None:
    with open_batcher(model) as batcher:
        for prompt, message in (([], "has no tokens"), ([5, 4000], "the token id 4000 has no embedding")):
            with pytest.raises(DataError, match=message):
                submit(batcher, Asked(prompt, LONG.decoding, 1))
        assert submit(batcher, LONG, top_logprobs=1_000).end.finish_reason == "length"


def test_a_receiver_that_fails_loses_its_own_answer_only(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fails(token: NewToken) -> None:
        raise RuntimeError("the client has gone")

    with open_batcher(model) as batcher:
        batcher.submit([5], Decoding(100_000), 1, fails)
        assert submit(batcher, LONG).end.finish_reason == "length"
        assert not batcher._running, "it does not go on for nobody"
    assert "the client has gone" in caplog.text


def test_closing_ends_every_answer(model: Any) -> None:
    was = model.config._attn_implementation
    batcher = open_batcher(model, max_rows=1)
    running, waiting = endless(batcher), submit(batcher, LONG)
    batcher.close()
    end = NewToken(None, finish_reason="error", error="the model is being closed")
    assert running.end == waiting.end == end
    with pytest.raises(EngineError, match=r"^the model is being closed$"):
        submit(batcher, LONG)
    batcher.close()
    assert model.config._attn_implementation == was


def test_a_model_that_fails_fails_all_its_answers(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_batcher(model, max_rows=1) as batcher:
        running, waiting = endless(batcher), submit(batcher, LONG)

        def fail(*_: Any) -> Any:
            raise torch.OutOfMemoryError("no memory\nat all")

        monkeypatch.setattr(batcher._rows, "step", fail)
        for heard in (running, waiting):
            assert heard.end == NewToken(None, finish_reason="error", error="the model failed: no memory")
        with pytest.raises(EngineError, match=r"^the model failed: no memory$"):
            submit(batcher, LONG)


def test_rows_that_cannot_share_a_batch_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    with open_batcher(tiny_model("phi3")) as batcher:
        heard = [submit(batcher, one) for one in questions(3)]
        assert all(one.end for one in heard)
    assert caplog.text.count("one after another") == 1
