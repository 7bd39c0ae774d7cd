"""Two models at once: what each says, how an answer fails, and that nobody's going leaves one running."""

from __future__ import annotations

import logging
import re
import threading
from queue import Queue

import pytest

from palate.errors import EngineError, UsageError
from palate.feedback.page.chat import Chat, ChatEvent, Ended, Failed, Piece, split_model
from palate.models.generation.decoding import Decoding
from palate.records import Answer, Message
from streams import Endless, Fake

PROMPT = (Message("user", "which is better?"),)
HOW = Decoding(max_new_tokens=8, temperature=1.0, seed=7)


def events(chat: Chat, key: str = "k") -> list[ChatEvent]:
    """All events of one exchange, up to the end of both sides."""
    found: Queue[ChatEvent] = Queue()
    chat.ask(PROMPT, key, found.put)
    seen: list[ChatEvent] = []
    while sum(not isinstance(event, Piece) for event in seen) < 2:
        seen.append(found.get(timeout=60))
    chat.close()
    return seen


def last(seen: list[ChatEvent], side: int) -> ChatEvent:
    return [event for event in seen if event.side == side][-1]


def test_both_answers_arrive_in_pieces_and_then_whole() -> None:
    first, second = Fake("the ", "", "sky"), Fake("a rose", name="b", reason="length")
    seen = events(Chat(first, second, HOW))
    assert [event.text for event in seen if isinstance(event, Piece) and event.side == 0] == ["the ", "sky"]
    assert last(seen, 0) == Ended(0, Answer("the sky", "stop", 3), first.seeds[0])
    assert last(seen, 1) == Ended(1, Answer("a rose", "length", 1), second.seeds[0])


def test_one_model_twice_has_two_seeds_and_an_exchange_can_be_repeated() -> None:
    model = Fake("x")
    for _ in range(2):
        events(Chat(model, model, HOW))
    events(Chat(model, model, HOW), key="another")
    first, second, again = model.seeds[:2], model.seeds[2:4], model.seeds[4:]
    assert len({*first, *again}) == 4
    assert sorted(first) == sorted(second)


def test_equal_weights_under_two_names_are_one_model() -> None:
    assert Chat(Fake(identity="1f"), Fake(name="b", identity="1f"), HOW).same
    assert not Chat(Fake(identity="1f"), Fake(name="b", identity="2f"), HOW).same
    assert not Chat(Fake(), Fake(name="b"), HOW).same, "two engines, of which nothing is known"
    with pytest.raises(UsageError, match="a and b are the same model, which at --temperature 0 gives equal answers"):
        Chat(Fake(identity="1f"), Fake(name="b", identity="1f"), Decoding())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Fake("half", fails=EngineError("http://host/v1: secret-model broke off")), "did not give a complete answer"),
        (Fake("half", fails=RuntimeError("out of memory in secret-model")), "the model failed"),
        (Fake("filtered", reason="content_filter"), "ended the answer with content_filter"),
        (Fake("a\0b"), "character that cannot be stored"),
        (Fake(" ", "\n"), "wrote no text$"),
        (Fake(reason="length"), "wrote no text before the limit of tokens"),
    ],
)
def test_a_failed_answer_is_no_answer_and_does_not_end_the_other(
    model: Fake, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    model.name = "secret-model"
    with caplog.at_level(logging.WARNING):
        seen = events(Chat(Fake("whole"), model, HOW))
    failed = last(seen, 1)
    assert isinstance(failed, Failed)
    assert re.search(reason, failed.reason)
    assert "secret" not in failed.reason, "the comparison is blind"
    assert str(model.fails or "") in caplog.text, "the server's terminal has it"
    assert isinstance(last(seen, 0), Ended)


def test_a_cancelled_exchange_stops_both_models_and_says_nothing_more() -> None:
    first, second = Endless(), Endless(name="b")
    chat = Chat(first, second, HOW)
    seen: list[ChatEvent] = []
    begun = threading.Event()

    def on_event(event: ChatEvent) -> None:
        seen.append(event)
        begun.set()

    exchange = chat.ask(PROMPT, "k", on_event)
    assert begun.wait(60)
    exchange.cancel()
    assert first.left.wait(60)
    assert second.left.wait(60)
    assert all(isinstance(event, Piece) for event in seen)
    chat.close()


def test_a_person_has_one_exchange_at_a_time() -> None:
    chat = Chat(Endless(), Endless(name="b"), HOW)
    first: Queue[ChatEvent] = Queue()
    other: Queue[ChatEvent] = Queue()
    chat.ask(PROMPT, "k", first.put, person=1)
    chat.ask(PROMPT, "l", other.put, person=2)
    chat.ask(PROMPT, "m", lambda _: None, person=1)
    ends: dict[int, ChatEvent] = {}
    while len(ends) < 2:
        if not isinstance(event := first.get(timeout=60), Piece):
            ends[event.side] = event
    chat.close()
    assert ends == {side: Failed(side, "you asked another prompt meanwhile") for side in (0, 1)}  # type: ignore[arg-type]
    assert all(isinstance(event, Piece) for event in other.queue), "another person's goes on"


def test_closing_ends_what_still_runs() -> None:
    first, second = Endless(), Endless(name="b")
    chat = Chat(first, second, HOW)
    chat.ask(PROMPT, "k", lambda _: None)
    chat.close()
    assert {thread.name for thread in threading.enumerate() if thread.name.startswith("palate-chat")} == set()


@pytest.mark.parametrize(
    ("spec", "base_url", "found"),
    [
        ("runs/dpo", None, ("runs/dpo", None)),
        ("qwen", "http://h:1/v1", ("qwen", "http://h:1/v1")),
        ("openai:qwen@http://h:1/v1", None, ("qwen", "http://h:1/v1")),
        ("openai:me@home/qwen@http://h:1/v1", None, ("me@home/qwen", "http://h:1/v1")),
        ("openai:me@home", "http://h:1/v1", ("me@home", "http://h:1/v1")),
    ],
)
def test_a_models_name_may_have_its_engine(spec: str, base_url: str | None, found: tuple[str, str | None]) -> None:
    assert split_model(spec, base_url) == found


@pytest.mark.parametrize("spec", ["openai:", "openai:qwen", "openai:@http://h/v1", "openai:qwen@host"])
def test_an_engine_without_model_or_url_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"write openai:MODEL@http://host:port/v1, or openai:MODEL with --base-url"):
        split_model(spec, None)
