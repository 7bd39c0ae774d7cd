"""Two answers in the terminal while they are written: side by side if there is room, else one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from palate.evaluation.answers.table import printable
from palate.feedback.page.chat import ChatEvent, Ended, Failed, Piece, Side

_WIDE = 100
"""Columns of a terminal in which two answers stand side by side."""


def show_pair(
    next_event: Callable[[], ChatEvent],
    sides: tuple[Side, Side],
    names: Sequence[str],
    width: int | None,
    write: Callable[[str], None],
) -> list[Ended | Failed]:
    """Show both answers until they end; their ends, in the order in which they are shown.

    Args:
        next_event: waits for the next event of the exchange.
        sides: whose answer is shown first.
        names: headings in the order of `sides`.
        write: prints text at once.
    """
    if width is not None and width >= _WIDE:
        return _side_by_side(next_event, sides, names)
    texts: dict[Side, str] = {0: "", 1: ""}
    ends: dict[Side, Ended | Failed] = {}
    for side, name in zip(sides, names, strict=True):
        write(f"\n── {name}\n{texts[side]}")
        while side not in ends:
            event = next_event()
            if not isinstance(event, Piece):
                ends[event.side] = event
            elif event.side == side:
                write(event.text)
            else:
                texts[event.side] += event.text
        write("\n")
    return [ends[side] for side in sides]


def _side_by_side(
    next_event: Callable[[], ChatEvent], sides: tuple[Side, Side], names: Sequence[str]
) -> list[Ended | Failed]:
    texts: dict[Side, str] = {0: "", 1: ""}
    ends: dict[Side, Ended | Failed] = {}

    def table() -> Table:
        shown = Table(*names, expand=True, show_lines=False)
        for column in shown.columns:
            column.ratio = 1
        shown.add_row(*(Text(printable(texts[side])) for side in sides))
        return shown

    console = Console()
    # While they are written, answers longer than the screen end in an ellipsis; then they are printed whole.
    with Live(console=console, get_renderable=table, refresh_per_second=8, transient=True):
        while len(ends) < 2:
            event = next_event()
            if isinstance(event, Piece):
                texts[event.side] += event.text
            else:
                ends[event.side] = event
    console.print(table())
    return [ends[side] for side in sides]
