"""The `palate` command, also as `python -m palate`."""

from __future__ import annotations

import os
import sys


def run() -> None:
    """Entry point. Ctrl-C while the command line is still being imported is one line too, not a traceback."""
    try:
        from palate.cli.main import run as run_command  # inside, because importing it takes a moment
    except KeyboardInterrupt:
        sys.stderr.write("palate: error: interrupted\n")
        sys.stderr.flush()
        os._exit(130)
    run_command()


if __name__ == "__main__":
    run()
