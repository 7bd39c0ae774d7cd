"""`python experiments/run.py NAME`: make what an experiment still lacks, and record what came out.

    python experiments/run.py                                   the experiments
    python experiments/run.py sentiment                         at its default size
    python experiments/run.py online --set run_seeds=[1]        another one
    python experiments/publish.py                               figures and tables from the records

The work lies in `runs/experiments/NAME`; the same command goes on after an interruption. When every cell is there, the
records go to `experiments/results/NAME.json`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

# Before tokenizers and torch start threads of their own: cells run side by side.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from _cells import CellError, Workshop
from _config import read_experiment_config

from palate.artifacts import write_json
from palate.errors import PalateError
from palate.training.setup.environment import machine, versions

HERE = Path(__file__).resolve().parent
NAMES = (
    "sentiment",
    "temperature",
    "overfitting",
    "recipe",
    "sweeps",
    "starts",
    "online",
)


def experiment(name: str) -> ModuleType:
    """The module of an experiment: `Config`, `cells(config, folder)`, `tables(result)`, `figures(result)`."""
    return importlib.import_module(name)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run one of the published comparisons; it goes on where it stopped.")
    parser.add_argument("name", nargs="?", choices=NAMES, help="absent: list them")
    parser.add_argument("--config", type=Path, help="YAML file; absent: experiments/configs/NAME.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    parser.add_argument("--work", type=Path, help="folder of runs; absent: runs/experiments/NAME")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the record")
    options = parser.parse_args()
    # A plain kill ends the cells too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.name is None:
        for name in NAMES:
            print(f"{name:12} {(experiment(name).__doc__ or '').splitlines()[0]}")
        return 0
    try:
        return run(options)
    except PalateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    module = experiment(options.name)
    path = options.config or HERE / "configs" / f"{options.name}.yaml"
    config = read_experiment_config(module.Config, path, options.set)
    work: Path = options.work or Path("runs") / "experiments" / options.name
    workshop = Workshop(work, module.cells(config, work))
    begin = time.monotonic()
    cells = workshop.make(workers=config.workers, threads=config.threads, on_progress=_say)
    if len(cells) < len(workshop.cells):
        raise CellError(f"{len(workshop.cells) - len(cells)} cells have no record")
    result = {
        "experiment": options.name,
        "command": command(options),
        "config": config.resolved(),
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
        "seconds_of_cells": round(sum(cell["seconds"] for cell in cells), 1),
        "cells": cells,
    }
    target = options.results / f"{options.name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, result, indent=1)
    _say(f"{target}: {len(cells)} cells, {time.monotonic() - begin:.0f} s now; publish.py draws them")
    return 0


def command(options: argparse.Namespace) -> str:
    """How to make the same record, from the root of the checkout; where the work lies is nobody else's business."""
    config = ["--config", str(options.config)] if options.config else []
    changed = [part for text in options.set for part in ("--set", text)]
    return " ".join(["python", "experiments/run.py", options.name, *config, *changed])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
