"""Makes docs/figures/terminal.svg: runs commands of the first page on the built-in pairs and draws what they print.

PYTHONPATH=src python tools/terminal_picture.py [FILE.svg]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

WIDTH, LINE, CHARACTER, MARGIN = 100, 19, 7.83, 16  # characters; pixels
PREPARE = ["data", "convert", "palate-demo", "--to", "trl", "--output", "pairs.csv"]
COMMANDS = {
    "palate init pairs.csv --model smollm2-135m-instruct": 5,
    "palate train run.yaml": 13,
    "palate eval accuracy runs/pairs": 4,
}
"""Each command with the lines of its output that are drawn; an ellipsis stands for the others."""


def palate(folder: str, words: list[str]) -> str:
    """What a command prints on stdout."""
    done = subprocess.run([sys.executable, "-m", "palate", *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"palate {' '.join(words)}: {done.stderr}")
    return done.stdout


def transcript() -> Iterator[tuple[bool, str]]:
    """Lines of the terminal, each with whether a person typed it."""
    with tempfile.TemporaryDirectory() as folder:
        palate(folder, PREPARE)
        for command in COMMANDS:
            yield from shown(command, palate(folder, command.split()[1:]))


def shown(command: str, printed: str) -> Iterator[tuple[bool, str]]:
    """The lines of one command."""
    yield True, command
    lines = [line for line in printed.splitlines() if line.strip()]
    yield from ((False, line[:WIDTH]) for line in lines[: COMMANDS[command]])
    if len(lines) > COMMANDS[command]:
        yield False, "…"
    yield False, ""


def drawing(lines: list[tuple[bool, str]]) -> str:
    """The terminal as SVG, without fonts from elsewhere."""
    width, height = round(WIDTH * CHARACTER + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    rows = []
    for number, (typed, text) in enumerate(lines):
        prompt = '<tspan fill="#7ee787">$ </tspan>' if typed else ""
        colour = "#ffffff" if typed else "#c9d1d9"
        place = f'x="{MARGIN}" y="{MARGIN + (number + 0.75) * LINE:g}"'
        rows.append(f'<text {place} fill="{colour}" xml:space="preserve">{prompt}{escape(text)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="13" '
            "font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">",
            f'<rect width="{width}" height="{height}" rx="8" fill="#161b22"/>',
            *rows,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    target = Path(sys.argv[1] if sys.argv[1:] else "docs/figures/terminal.svg")
    target.write_text(drawing(list(transcript())[:-1]), encoding="utf-8")
