"""Progress and remaining time of long passes over data, on stderr.

On a terminal all running passes share one display of bars. Without a terminal (a pipe, a log file) a pass prints a line
every 30 seconds; shorter passes print nothing. Of several processes only the main one prints.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

T = TypeVar("T")

LINE_EVERY = 30.0
"""Seconds between two lines without a terminal."""

console = Console(stderr=True, soft_wrap=True)
"""Prints bars and lines; with `console.quiet` nothing. Print through it while a bar is shown."""

_bars: Progress | None = None
_open = 0


def print_line(line: str, *, notice: bool = False) -> None:
    """Print a line; a notice also with `--quiet`, as `cli.console.print_note` does."""
    quiet, console.quiet = console.quiet, console.quiet and not notice
    if notice:
        console.print("palate: note: ", style="yellow", end="")
        line = line.removeprefix("note: ").removeprefix("warning: ")
    console.print(line, highlight=False, markup=False)
    console.quiet = quiet


class Pace:
    """Time left of a pass, from its pace after the first items: those include loading and compiling.

    `left` is known after three updates.
    """

    def __init__(self) -> None:
        self._updates = 0

    def reach(self, done: float) -> None:
        """Notes the items done by now."""
        self._updates += 1
        self._now, self._done = time.monotonic(), done
        if self._updates == 1:
            self._first = self._now, done

    def left(self, total: float) -> float | None:
        """Seconds until `total` items are done; None if it is too early to say."""
        if self._updates < 3 or self._done <= self._first[1]:
            return None
        pace = (self._now - self._first[0]) / (self._done - self._first[1])
        return pace * (total - self._done)


class Pass:
    """A pass over a number of items.

    Attributes:
        done: number of items done.
        total: number of items, None if unknown.
    """

    def __init__(self, label: str, total: float | None, *, done: float = 0, delay: float = 0.0) -> None:
        self.label = label
        self.total = total
        self.done = done
        self._pace = Pace()
        self._delay = delay
        self._started = self._printed = time.monotonic()
        self._task: TaskID | None = None
        self._main = os.environ.get("RANK", "0") == "0"
        self._closed = False
        if not delay:
            self._show()

    def advance(self, count: float = 1) -> None:
        """Adds `count` to the items done."""
        self.reach(self.done + count)

    def reach(self, done: float) -> None:
        """Sets the items done, at most the total (several processes repeat rows to fill their last batch)."""
        self.done = done if self.total is None else min(done, self.total)
        self._pace.reach(self.done)
        now = time.monotonic()
        if self._task is None and now - self._started >= self._delay:
            self._show()
        if self._task is not None and _bars is not None:
            _bars.update(self._task, completed=self.done, left=self._left())
        elif self._main and not console.is_terminal and now - self._printed >= LINE_EVERY:
            self._printed = now
            print_line(self.line(now - self._started))

    def line(self, elapsed: float) -> str:
        """The state as a line, `elapsed` seconds after the start."""
        if self.total is None:
            return f"{self.label}: {self.done:,.0f} done, {clock(elapsed)} so far"
        left = self._left()
        return f"{self.label}: {self.done:,.0f} of {self.total:,.0f}{left and f', {left}'}"

    def _left(self) -> str:
        left = None if self.total is None else self._pace.left(self.total)
        return "" if left is None else f"{clock(left)} left"

    def close(self) -> None:
        """Ends the pass."""
        global _bars, _open
        if self._closed:
            return
        self._closed = True
        if self._task is None or _bars is None:
            return
        _bars.remove_task(self._task)
        self._task = None
        _open -= 1
        if not _open:
            _bars.stop()
            _bars = None

    def _show(self) -> None:
        global _bars, _open
        if self._closed or not self._main or not console.is_terminal:
            return
        if _bars is None:
            _bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=console,
                transient=True,
                refresh_per_second=4,
            )
            _bars.start()
        _open += 1
        self._task = _bars.add_task(self.label, total=self.total, completed=int(self.done), left="")


@contextlib.contextmanager
def progress(label: str, total: float | None, *, done: float = 0, delay: float = 0.0) -> Iterator[Pass]:
    """A pass that ends with the block.

    Args:
        label: one or two words.
        done: items done by an earlier run.
        delay: seconds before a bar is shown.
    """
    running = Pass(label, total, done=done, delay=delay)
    try:
        yield running
    finally:
        running.close()


def track(items: Iterable[T], label: str, total: float | None = None, *, delay: float = 0.0) -> Iterator[T]:
    """The same items; each is counted after its use. `total` defaults to the length of a sequence."""
    if total is None and isinstance(items, Sequence):
        total = len(items)
    with progress(label, total, delay=delay) as running:
        for item in items:
            yield item
            running.advance()


def clock(seconds: float) -> str:
    """`1:05:09`, `2:10`."""
    whole = int(seconds)
    minutes = f"{whole // 60 % 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes:0>5}" if whole >= 3600 else minutes
