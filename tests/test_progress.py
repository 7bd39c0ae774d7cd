"""Passes that say how far they are: bars on a terminal, a line now and then elsewhere, nothing for short ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from palate import progress as module
from palate.progress import Pass, clock, progress, track


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written where there is no terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=stream, width=80))
    return stream


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=stream, width=80, force_terminal=True))
    return stream


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.9, "0:59"), (130, "2:10"), (3909, "1:05:09"), (36000, "10:00:00")]
)
def test_a_time(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@pytest.fixture
def clock_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock that passes read."""

    def at(seconds: float) -> None:
        monkeypatch.setattr(module.time, "monotonic", lambda: seconds)

    at(0.0)
    return at


def test_the_time_left_is_said_from_the_third_update_on_and_without_the_first_items(
    clock_at: Callable[[float], None],
) -> None:
    """The first item takes 100 s to load a model; the others take 2 s each."""
    one = Pass("reference", 1000, done=400)
    lines = []
    for number, seconds in enumerate((100.0, 102.0, 104.0, 106.0), 1):
        clock_at(seconds)
        one.advance()
        assert one.done == 400 + number
        lines.append(one.line(seconds))
    assert lines == [
        "reference: 401 of 1,000",
        "reference: 402 of 1,000",
        "reference: 403 of 1,000, 19:54 left",  # 597 items of 2 s
        "reference: 404 of 1,000, 19:52 left",
    ]


def test_rows_that_are_repeated_to_fill_the_last_batch_leave_no_negative_time(
    clock_at: Callable[[float], None],
) -> None:
    one = Pass("evaluation", 10)
    for seconds in (1.0, 2.0, 3.0):
        clock_at(seconds)
        one.advance(8)
    assert one.line(3.0) == "evaluation: 10 of 10, 0:00 left"


def test_updates_without_progress_leave_the_time_unsaid(clock_at: Callable[[float], None]) -> None:
    one = Pass("evaluation", 10)
    for seconds in (1.0, 2.0, 3.0):
        clock_at(seconds)
        one.reach(1)
    assert one.line(3.0) == "evaluation: 1 of 10"


def test_a_total_that_nobody_knows_is_not_made_up() -> None:
    one = Pass("rows", None)
    one.done = 1234
    assert one.line(60.0) == "rows: 1,234 done, 1:00 so far"


def test_a_short_pass_prints_nothing_without_a_terminal(written: io.StringIO) -> None:
    assert list(track([1, 2, 3], "short")) == [1, 2, 3]
    assert written.getvalue() == ""


def test_a_long_pass_prints_a_line_now_and_then(written: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    assert list(track(iter("ab"), "letters", total=2)) == ["a", "b"]
    assert [line.split(",")[0] for line in written.getvalue().splitlines()] == ["letters: 1 of 2", "letters: 2 of 2"]


def test_other_processes_than_the_main_one_print_nothing(written: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    monkeypatch.setenv("RANK", "1")
    assert list(track([1], "letters")) == [1]
    assert written.getvalue() == ""


def test_passes_within_each_other_share_one_display(terminal: io.StringIO) -> None:
    with progress("outer", 2) as outer:
        with progress("inner", 10) as inner:
            inner.advance(3)
            shown = module._bars
            assert shown is not None
            assert [(task.description, task.completed) for task in shown.tasks] == [("outer", 0), ("inner", 3)]
        outer.advance()
        assert [task.description for task in shown.tasks] == ["outer"]
    assert module._bars is None
    assert "outer" in terminal.getvalue()


def test_a_pass_with_a_delay_is_not_shown_before_it(terminal: io.StringIO) -> None:
    with progress("quick", 2, delay=60.0) as quick:
        quick.advance()
        assert module._bars is None
    assert terminal.getvalue() == ""


def test_the_display_ends_with_an_error_in_the_pass(terminal: io.StringIO) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(track(broken(), "broken", total=2))
    assert module._bars is None


def test_a_notice_stays_with_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module.console, "quiet", True)
    module.print_line("step 3")
    module.print_line("warning: [x]", notice=True)
    assert capsys.readouterr().err == "palate: note: [x]\n"
    assert module.console.quiet
