"""How many processes encode, how they begin, and what happens when one dies."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import pytest

from palate.errors import DataError
from palate.records import AnyRecord
from palate.text import processes
from palate.text.groups import Encoded, EncodingStats

NOTHING = Encoded([], [], [], EncodingStats())


def dies(records: Sequence[AnyRecord]) -> Encoded:
    del records
    os._exit(9)


def test_a_second_process_is_used_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    assert [processes.worthwhile(n) for n in (300, 512, 768, 100_000)] == [1, 2, 3, 4]
    monkeypatch.setattr(processes, "may_fork", lambda: False)
    assert [processes.worthwhile(n) for n in (5_000, 100_000)] == [1, 4]


def test_nothing_is_forked_beside_another_thread() -> None:
    held = threading.Event()
    other = threading.Thread(target=held.wait)
    other.start()
    try:
        assert not processes.may_fork()
    finally:
        held.set()
        other.join()


def test_a_killed_process_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    monkeypatch.setattr(processes, "CHUNK", 1)
    with pytest.raises(DataError, match="set preprocessing_num_workers: 1"):
        processes.encode_chunks([None, None], dies, 2)  # type: ignore[list-item]


def test_one_chunk_is_encoded_here() -> None:
    assert processes.encode_chunks([], lambda rows: NOTHING, 8) == []
    here: list[int] = []

    def encode(records: Sequence[AnyRecord]) -> Encoded:
        here.append(os.getpid())
        return NOTHING

    assert processes.encode_chunks([None] * 3, encode, 8) == [NOTHING]  # type: ignore[list-item]
    assert here == [os.getpid()]
