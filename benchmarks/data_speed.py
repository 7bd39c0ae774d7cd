"""Rows per second and peak memory of loading, inspecting, curating and tokenising pairs.

    python benchmarks/data_speed.py --rows 1000 10000 100000 --workers 2 --out data_speed.json

Each measurement runs in a process of its own, so that one's memory is not the other's. The pairs are synthetic, about
1,100 characters each (the size of UltraFeedback's median prompt and answers together is twice that), with 2 % planted
duplicates. Tokenising needs --model, a folder with a fast tokenizer.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TASKS = ("load", "inspect", "curate", "tokenise")


def write_pairs(path: Path, rows: int) -> None:
    """Pairs of words drawn with the frequencies of language: the nth word in proportion to 1/n."""
    chance = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    small = ["the", "of", "and", "to", "is", "in", "that", "it", "for", "you"]

    def text(count: int) -> str:
        drawn = chance.choices(words, weights, k=count)
        return " ".join(chance.choice(small) if place % 3 == 0 else word for place, word in enumerate(drawn)) + "."

    with path.open("w") as file:
        last: dict[str, str] = {}
        for number in range(rows):
            if number % 50 or not last:
                last = {
                    "prompt": text(30),
                    "chosen": text(chance.randint(40, 120)),
                    "rejected": text(chance.randint(40, 120)),
                }
            file.write(json.dumps(last) + "\n")


def run_task(task: str, path: str, workers: int, model: str | None) -> dict[str, Any]:
    """One measurement, in this process."""
    start = time.perf_counter()
    if task == "load":
        from palate.data import load_records
        from palate.records import PreferencePair

        done = len(load_records(path, kind=PreferencePair).records)
    elif task == "inspect":
        from palate.data.inspect import inspect_dataset

        done = inspect_dataset(path, workers=workers).rows
    elif task == "curate":
        from palate.data.curate import curate, read_rules

        with tempfile.TemporaryDirectory() as folder:
            result = curate(path, Path(folder) / "out", read_rules(preset="strong"), workers=workers)
        done = result.steps[0].before
    else:
        done = _tokenise(path, str(model), workers)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    seconds = time.perf_counter() - start
    return {"rows": done, "seconds": seconds, "rows_per_second": done / seconds, "peak_mib": (used + children) / 1024}


def _tokenise(path: str, model: str, workers: int) -> int:
    from palate.data import load_records
    from palate.models.load import load_tokenizer
    from palate.records import PreferencePair
    from palate.text.encode import encode_records
    from palate.text.template import load_template

    records = load_records(path, kind=PreferencePair).records
    encoded = encode_records(records, load_template(load_tokenizer(model)), cutoff_len=2048, workers=workers)
    return len(encoded.groups) + len(encoded.dropped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", help="folder with a tokenizer; without it nothing is tokenised")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(run_task(options.task, options.file, options.workers, options.model)))
        return
    found = []
    tasks = [task for task in TASKS if task != "tokenise" or options.model]
    with tempfile.TemporaryDirectory() as folder:
        for rows in options.rows:
            path = Path(folder) / f"pairs_{rows}.jsonl"
            write_pairs(path, rows)
            for task in tasks:
                command = [
                    sys.executable,
                    __file__,
                    "--task",
                    task,
                    "--file",
                    str(path),
                    "--workers",
                    str(options.workers),
                ]
                command += ["--model", options.model] if options.model else []
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                figures = {"task": task, **json.loads(done.stdout.splitlines()[-1])}
                found.append(figures)
                print(
                    f"{task:<10}{figures['rows']:>9,} rows{figures['seconds']:>9.1f} s"
                    f"{figures['rows_per_second']:>10,.0f} rows/s{figures['peak_mib']:>8,.0f} MiB",
                    flush=True,
                )
    if options.out:
        options.out.write_text(json.dumps({"workers": options.workers, "figures": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
