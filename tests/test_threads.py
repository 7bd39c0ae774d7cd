"""OpenMP's wait policy: sleeping threads on a busy machine, the user's choice always, nothing once torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from palate import threads
from palate.threads import CHOICES, choose_wait_policy


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a process that has loaded no torch, on a busy machine."""
    for name in (*CHOICES, "OMP_NUM_THREADS", "PALATE_WAIT_POLICY"):
        # Set first, so that what is chosen here is put back afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(threads, "others_running", lambda: 1)
    return monkeypatch


def chosen() -> dict[str, str]:
    return {name: os.environ[name] for name in CHOICES if name in os.environ}


def test_threads_sleep_where_another_process_is_busy(fresh: pytest.MonkeyPatch) -> None:
    choose_wait_policy()
    assert chosen() == {"OMP_WAIT_POLICY": "passive"}


def test_an_idle_machine_keeps_the_default(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(threads, "others_running", lambda: 0)
    choose_wait_policy()
    assert chosen() == {}


@pytest.mark.parametrize("name", CHOICES)
def test_what_the_user_set_is_left_alone(fresh: pytest.MonkeyPatch, name: str) -> None:
    fresh.setenv(name, "active")
    choose_wait_policy()
    assert chosen() == {name: "active"}


def test_a_parents_choice_is_made_again(fresh: pytest.MonkeyPatch) -> None:
    choose_wait_policy()
    fresh.setattr(threads, "others_running", lambda: 0)
    choose_wait_policy()
    assert chosen() == {}


def test_a_single_thread_has_nothing_to_wait_for(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("OMP_NUM_THREADS", "1")
    choose_wait_policy()
    assert chosen() == {}


def test_once_torch_is_loaded_nothing_is_changed(fresh: pytest.MonkeyPatch) -> None:
    fresh.setitem(sys.modules, "torch", sys)
    choose_wait_policy()
    assert chosen() == {}


@pytest.mark.skipif(not os.path.exists("/proc/loadavg"), reason="only Linux says what runs")  # noqa: PTH110
def test_a_busy_process_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            assert any(threads.others_running() >= 1 for _ in range(20))
        finally:
            busy.kill()


@pytest.mark.skipif(not os.path.exists("/proc/loadavg"), reason="only Linux says what runs")  # noqa: PTH110
def test_two_that_start_together_see_each_other() -> None:
    looking = "from palate.threads import others_running\nprint('up', flush=True)\nwhile True: others_running()"
    with subprocess.Popen([sys.executable, "-c", looking], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            assert sum(threads.others_running() >= 1 for _ in range(20)) >= 15
        finally:
            other.kill()
