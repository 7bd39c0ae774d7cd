"""Nothing is cut off at 80 columns, and nothing is wrapped or coloured where the output is no terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from palate.cli.columns import table, two_columns, wrapped
from palate.cli.objectives.texts import all_objectives

pty = pytest.importorskip("pty", reason="a terminal is needed")

NAMES = ["point", "rm:models/reward", "KL", "ended"]
ROWS = [["runs/dpo/checkpoint-100", "1.23 ± 0.456", "12.3 ± 1.2", "98 %"], ["base", "0", "0", "100 %"]]


def test_long_lines_hang_under_their_text_and_lose_nothing() -> None:
    line = "equals    " + " ".join(f"word{n}" for n in range(40))
    lines = wrapped(line, hang=10, width=80).split("\n")
    assert all(cell_len(one) <= 80 for one in lines)
    assert all(one.startswith(" " * 10) and one[10] != " " for one in lines[1:])
    assert " ".join(" ".join(lines).split()) == " ".join(line.split())
    assert wrapped(line, hang=10, width=None) == line


def test_wide_characters_count_twice_and_break_anywhere() -> None:
    lines = wrapped("text      " + "好" * 60, hang=10, width=80).split("\n")
    assert all(cell_len(one) <= 80 for one in lines)
    assert "".join(lines).count("好") == 60


def test_names_are_aligned() -> None:
    assert two_columns([("a", "one"), ("long", "two")], width=80) == "  a     one\n  long  two"


def test_a_table_that_fits_is_aligned() -> None:
    lines = table(NAMES, ROWS, right={1, 2, 3}, width=80).split("\n")
    assert len({cell_len(one) for one in lines}) == 1
    assert lines[2].endswith(" 98 %")


def test_a_table_that_does_not_fit_becomes_blocks_with_every_figure() -> None:
    text = table(NAMES, ROWS, right={1, 2, 3}, width=40)
    assert "…" not in text
    for cell in (*NAMES[1:], *ROWS[0]):
        assert cell in text
    assert all(cell_len(one) <= 40 for one in text.split("\n"))
    assert text != table(NAMES, ROWS, right={1, 2, 3}, width=None)


def test_the_list_of_objectives_is_whole_lines_where_it_is_piped() -> None:
    text = all_objectives()
    assert "\x1b" not in text
    assert max(map(len, text.split("\n"))) > 100


@pytest.mark.parametrize("words", [["objectives"], ["objectives", "simpo"]])
def test_at_80_columns_of_a_terminal(words: list[str]) -> None:
    shown = in_terminal(80, "-m", "palate", *words)
    assert max(cell_len(line) for line in shown.split("\n")) <= 80
    piped = subprocess.run([sys.executable, "-m", "palate", *words], capture_output=True, text=True, check=True).stdout
    assert "\x1b" not in piped
    assert re.sub(r"\s+", "", shown) == re.sub(r"\s+", "", piped), "the same words, only wrapped"


def in_terminal(width: int, *arguments: str | Path) -> str:
    """What a command shows on a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=theirs, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:
            break
        if not read:
            break
        seen += read
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return seen.decode().replace("\r\n", "\n")
