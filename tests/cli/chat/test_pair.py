"""Two answers on the screen: whole, in the order that was drawn, and side by side where there is room."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from palate.cli.chat import pair
from palate.cli.chat.pair import show_pair
from palate.feedback.page.chat import ChatEvent, Ended, Failed, Piece
from palate.records import Answer

FIRST, SECOND = Ended(0, Answer("blue sky", "stop", 2), 1), Ended(1, Answer("red\x1b[2J rose", "stop", 2), 2)
EVENTS: list[ChatEvent] = [Piece(1, "red\x1b[2J "), Piece(0, "blue "), Piece(1, "rose"), SECOND, Piece(0, "sky"), FIRST]


def events() -> Callable[[], ChatEvent]:
    left = iter(EVENTS)
    return lambda: next(left)


@pytest.mark.parametrize("width", [None, 80, 99])
def test_one_after_the_other(width: int | None) -> None:
    written: list[str] = []
    assert show_pair(events(), (1, 0), ["A", "B"], width, written.append) == [SECOND, FIRST]
    assert "".join(written) == "\n── A\nred\x1b[2J rose\n\n── B\nblue sky\n"
    assert len(written) > 4, "in pieces"


def test_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(pair, "Console", lambda: Console(file=screen, width=100, force_terminal=True))
    assert show_pair(events(), (1, 0), ["A", "B"], 100, lambda _: None) == [SECOND, FIRST]
    last = screen.getvalue().rstrip().splitlines()
    (line,) = [line for line in last[-4:] if "rose" in line]
    assert line.index("red[2J rose") < 50 < line.index("blue sky")
    assert "\x1b[2J" not in screen.getvalue(), "a model cannot clear the screen"


def test_a_failed_side_is_returned_as_it_ended() -> None:
    left = iter([Failed(0, "no"), FIRST.__class__(1, SECOND.answer, 2)])
    assert [type(end) for end in show_pair(lambda: next(left), (0, 1), ["A", "B"], None, lambda _: None)] == [
        Failed,
        Ended,
    ]
