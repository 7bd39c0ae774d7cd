"""How much slower palate gets beside other work: `palate demo` alone, beside one busy core, and twice at once.

    python benchmarks/busy.py                      as palate chooses how OpenMP's threads wait
    python benchmarks/busy.py --wait default       as libgomp does by itself: spinning
    python benchmarks/busy.py --wait passive       sleeping at once, also on an idle machine
    python benchmarks/busy.py --wait 3000          spinning that many times

Timed is the whole command, from its start to its end. With two at once the later one counts. The ratios to the time
alone are printed, medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from _measure import located, palate_python, positive, results_option, say, spread, write_result

# libgomp's own spin count where OMP_WAIT_POLICY is not set.
WAITS = {"chosen": {}, "default": {"GOMP_SPINCOUNT": "300000"}, "passive": {"OMP_WAIT_POLICY": "passive"}}
CASES = ("quiet", "one busy core", "two at once")


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="palate-busy-") as folder:
        seconds = measure(options, Path(folder))
    result = located(
        {
            "benchmark": "busy",
            "settings": {"steps": options.steps, "wait": options.wait, "rounds": options.rounds},
            "seconds": {case: spread(values) for case, values in seconds.items()},
        }
    )
    path = write_result(f"busy-{options.wait}", result, options.results)
    quiet = statistics.median(seconds["quiet"])
    for case in CASES:
        median = statistics.median(seconds[case])
        print(f"{case:<15}{median:8.1f} s{median / quiet:8.2f}×")
    say(f"written: {path}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="palate alone and beside other work.")
    parser.add_argument("--steps", type=positive, default=20, help="optimiser steps of the demo")
    parser.add_argument("--rounds", type=positive, default=1)
    parser.add_argument("--wait", default="chosen", help="chosen, default, passive or a spin count")
    results_option(parser)
    options = parser.parse_args()
    if options.wait not in WAITS and not options.wait.isdecimal():
        parser.error(f"--wait {options.wait}: is not one of {', '.join(WAITS)} or a spin count")
    return options


def measure(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds of each case, round by round."""
    found: dict[str, list[float]] = {case: [] for case in CASES}
    for number in range(options.rounds):
        for case in CASES:
            say(f"round {number + 1} of {options.rounds}: {case}")
            with busy_core() if case == "one busy core" else nullcontext():
                found[case].append(demos(2 if case == "two at once" else 1, options, folder))
    return found


def demos(count: int, options: argparse.Namespace, folder: Path) -> float:
    """Seconds until as many demos as that, started together, have all ended."""
    wait = WAITS.get(options.wait, {"GOMP_SPINCOUNT": options.wait})
    command = [palate_python(), "-m", "palate", "demo", "--steps", str(options.steps), "--output-dir"]
    begin = time.monotonic()
    running = [
        subprocess.Popen(
            [*command, str(folder / f"demo-{number}")],
            env={**os.environ, "HF_HUB_OFFLINE": "1", **wait},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for process in running:
        _, error = process.communicate()
        if process.returncode:
            sys.exit(f"palate demo failed with exit code {process.returncode}: {error.strip().splitlines()[-1]}")
    return time.monotonic() - begin


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process that wants a core all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
