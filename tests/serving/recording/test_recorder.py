"""An interaction is stored before its first byte, its end is written once, and dead writers' rows become partial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import func, select, update

from palate.serving.recording import NewInteraction, RecordedChoice, Usage, shared_secret
from palate.serving.recording.recorder import ABANDONED_AFTER, StateError
from palate.store import Store
from palate.store.serving_tables import Interaction, InteractionAnswer
from recorded import START, Recording

ENDS = ("complete", "cancelled", "refused", "unreachable", "upstream_error", "partial")


def row(store: Store, identifier: str) -> Interaction:
    found = store.read(lambda session: session.get(Interaction, identifier))
    assert found is not None
    return found


def answers(store: Store, identifier: str) -> list[tuple[Any, ...]]:
    wanted = select(InteractionAnswer.number, InteractionAnswer.text, InteractionAnswer.finish_reason)
    of = InteractionAnswer.interaction_id == identifier
    return [tuple(found) for found in store.read(lambda session: session.execute(wanted.where(of)).all())]


def test_what_is_stored_of_a_request_and_its_end(store: Store) -> None:
    recording = Recording(store)
    identifier = recording.reserve(
        [{"role": "system", "content": "Short."}, {"role": "user", "content": "a\0b \ud83d"}],
        decoding={"temperature": 0.5, "n": 2, "stop": ["\n"]},
        identity="sha", template="tmpl", route="production", probability=0.9, tools=[{"type": "function"}],
    )  # fmt: skip
    stored = row(store, identifier)
    assert (stored.state, stored.created, stored.finished) == ("reserved", START, None)
    assert (stored.route, stored.probability, stored.identity, stored.template) == ("production", 0.9, "sha", "tmpl")
    assert stored.decoding == {"temperature": 0.5, "n": 2, "stop": ["\n"]}
    assert stored.prompt[1]["content"] == "a\ufffdb ?", "what a database cannot keep does not fail the request"
    assert stored.tools == '[{"type": "function"}]'
    assert identifier.startswith("chatcmpl-")
    assert len(identifier) == 9 + 32
    recording.recorder.update(identifier, "streaming")
    recording.clock.now = START + timedelta(seconds=2)
    ended = [RecordedChoice("Red.", "stop", None, 2), RecordedChoice("", "tool_calls", [{"id": "c"}])]
    recording.recorder.update(identifier, "complete", ended, usage=Usage(7, 3))
    stored = row(store, identifier)
    assert (stored.state, stored.finished) == ("complete", START + timedelta(seconds=2))
    assert (stored.prompt_tokens, stored.completion_tokens) == (7, 3)
    assert answers(store, identifier) == [(0, "Red.", "stop"), (1, "", "tool_calls")]


@pytest.mark.parametrize("values", [{"policy": "none"}, {"store": False}])
def test_nothing_is_stored_where_nothing_may_be(sqlite_store: Store, values: dict[str, Any]) -> None:
    entry = {"endpoint": "chat", "prompt": "x", "model": "v1", "policy": "full", **values}
    assert Recording(sqlite_store).recorder.reserve(NewInteraction(**entry)) is None
    assert sqlite_store.read(lambda session: session.scalar(select(func.count()).select_from(Interaction))) == 0


def test_a_state_changes_in_one_direction_only(sqlite_store: Store) -> None:
    recording = Recording(sqlite_store)
    for first, second in product(ENDS, (*ENDS, "streaming")):
        identifier = recording.reserve()
        recording.recorder.update(identifier, first, [RecordedChoice("one", "stop")])
        if first == second:
            recording.recorder.update(identifier, second, [RecordedChoice("two", "stop")])
        else:
            with pytest.raises(StateError, match=f"is {first}, so it cannot become {second}"):
                recording.recorder.update(identifier, second)
        assert (row(sqlite_store, identifier).state, answers(sqlite_store, identifier)[0][1]) == (first, "one")


def test_an_interaction_that_was_deleted_meanwhile_stays_deleted(sqlite_store: Store) -> None:
    recording = Recording(sqlite_store)
    recording.recorder.update("chatcmpl-gone", "complete", [RecordedChoice("text", "stop")])
    assert answers(sqlite_store, "chatcmpl-gone") == []


DIES = """
import os, signal, sys
from palate.serving.recording import NewInteraction, Recorder
from palate.store import open_store
recorder = Recorder(open_store(sys.argv[1]), secret=b"")
ids = [recorder.reserve(NewInteraction(endpoint="chat", prompt="x", model="v1", policy="full")) for _ in range(3)]
recorder.update(ids[0], "streaming")
recorder.update(ids[1], "complete")
print(*ids, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_rows_of_a_dead_process_become_partial_at_the_next_start(sqlite_store: Store) -> None:
    died = subprocess.run(
        [sys.executable, "-c", DIES, sqlite_store.url], stdout=subprocess.PIPE, text=True, check=False
    )
    assert died.returncode == -signal.SIGKILL
    recording = Recording(sqlite_store)
    own = recording.reserve()
    assert recording.recorder.give_up() == 2
    states = [row(sqlite_store, identifier).state for identifier in (*died.stdout.split(), own)]
    assert states == ["partial", "complete", "partial", "reserved"]
    assert recording.recorder.give_up() == 0


def test_rows_of_another_host_become_partial_by_age_and_a_writer_that_lives_still_writes_the_end(store: Store) -> None:
    recording = Recording(store)
    identifier = recording.reserve()
    writer = row(store, identifier).writer
    assert writer.split("/")[1] == str(os.getpid())
    store.write(lambda session: session.execute(update(Interaction).values(writer="elsewhere/1/1")))
    recording.clock.now = START + ABANDONED_AFTER
    assert recording.recorder.give_up() == 0
    recording.clock.now -= timedelta(days=1)  # the clock jumps back
    assert recording.recorder.give_up() == 0
    recording.clock.now += timedelta(days=1, seconds=1)
    assert recording.recorder.give_up() == 1
    assert row(store, identifier).state == "partial"
    with pytest.raises(StateError):
        recording.recorder.update(identifier, "complete")
    store.write(lambda session: session.execute(update(Interaction).values(writer=writer)))
    recording.recorder.update(identifier, "complete", [RecordedChoice("late", "stop")])
    assert row(store, identifier).state == "complete"


def test_a_writer_adds_what_it_has_to_a_row_that_was_given_up(sqlite_store: Store) -> None:
    recording = Recording(sqlite_store)
    identifier = recording.reserve()
    recording.clock.now += 2 * ABANDONED_AFTER
    recording.recorder.give_up()
    recording.recorder.update(identifier, "partial", [RecordedChoice("half", None)])
    assert answers(sqlite_store, identifier) == [(0, "half", None)]
    assert row(sqlite_store, identifier).finished == recording.clock.now


def test_people_are_hashed_and_those_without_a_name_are_one_per_key(sqlite_store: Store) -> None:
    recorder = Recording(sqlite_store).recorder
    hashes = {recorder.user_hash(*who) for who in (("ann", None), ("bob", None), (None, None), (None, 1), ("key:1", 2))}
    assert len(hashes) == 5
    assert recorder.user_hash("ann", 1) == recorder.user_hash("ann", 2), "one person, whatever the app"
    assert shared_secret(sqlite_store) == shared_secret(sqlite_store) != bytes(32)
