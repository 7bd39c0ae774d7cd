"""Rows per second and peak memory of loading, inspecting, curating and tokenising pairs.

    python benchmarks/data_speed.py ../shared/data/preference/ultrafeedback_1k_train.jsonl \\
        ../shared/data/preference/hh_harmless_base_test.jsonl.gz --model smollm2-135m-instruct --out data_speed.json

Each measurement runs in a process of its own, so that one's memory is not the other's; memory is that of the process
and all of its workers together, sampled ten times a second as PSS where the system tells it (what processes share is
counted once). The pairs are the datasets' own sentences recombined (`_recombined.py`), 2.0 kB of text a pair with these
two, with near and exact duplicates. Without --model nothing is tokenised.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from _recombined import write_recombined

TASKS = ("load", "inspect", "curate", "tokenise")


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
        return _tokenise(path, str(model))
    return {"rows": done, "seconds": time.perf_counter() - start}


def _tokenise(path: str, model: str) -> dict[str, Any]:
    """Records to token ids and target masks, as training does it; reading the file and the tokenizer is not counted."""
    from palate.data import load_records
    from palate.models.loading.load import load_tokenizer
    from palate.records import PreferencePair
    from palate.text.encode import encode_records
    from palate.text.template import load_template

    records = load_records(path, kind=PreferencePair).records
    template = load_template(load_tokenizer(model))
    start = time.perf_counter()
    encoded = encode_records(records, template, cutoff_len=2048)
    return {"rows": len(encoded.groups) + len(encoded.dropped), "seconds": time.perf_counter() - start}


def measured(command: list[str]) -> dict[str, Any]:
    """What a measuring process prints, with the peak memory of it and its children, MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            peak = max(peak, _memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    figures = json.loads(printed.splitlines()[-1])
    return {**figures, "rows_per_second": figures["rows"] / figures["seconds"], "peak_mib": peak}


def _memory(pid: int) -> float:
    """PSS of a process and its descendants, MiB."""
    total = 0.0
    for process in [pid, *_descendants(pid)]:
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", default=["palate-demo"], help="whose sentences the pairs are made of")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--model", help="whose tokenizer tokenises: a folder or a name")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(run_task(options.task, options.file, options.workers, options.model)))
        return
    found: list[dict[str, Any]] = []
    tasks = [task for task in options.only if task != "tokenise" or options.model]
    with tempfile.TemporaryDirectory() as folder:
        for rows in options.rows:
            path = Path(folder) / f"pairs_{rows}.jsonl"
            write_recombined(path, options.datasets, rows)
            for task in tasks:
                command = [sys.executable, __file__, "--task", task, "--file", str(path)]
                command += ["--workers", str(options.workers), *(["--model", options.model] if options.model else [])]
                figures = {"task": task, **measured(command)}
                found.append(figures)
                print(
                    f"{task:<10}{figures['rows']:>9,} rows{figures['seconds']:>9.1f} s"
                    f"{figures['rows_per_second']:>10,.0f} rows/s{figures['peak_mib']:>8,.0f} MiB",
                    flush=True,
                )
            path.unlink()
    if options.out:
        options.out.write_text(json.dumps({"workers": options.workers, "figures": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
