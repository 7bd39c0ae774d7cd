"""What every benchmark shares: child processes, peak memory, medians, facts about the machine, result files.

Nothing here imports torch: a runner stays small, and each measured process loads only what it measures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
RESULTS = HERE / "results"
PREFERENCES = REPOSITORY.parent / "shared" / "data" / "preference" / "lf_dpo_en_demo.json"

MEBIBYTE = 1 << 20

Job = dict[str, Any]
Report = dict[str, Any]


def palate_python() -> str:
    """The interpreter of palate's environment: the one that runs this script."""
    return sys.executable


def trl_python() -> str:
    """The interpreter of TRL's environment: `$PALATE_TRL_PYTHON`, else what `make bench-env` made."""
    named = os.environ.get("PALATE_TRL_PYTHON", str(REPOSITORY / ".trl-venv" / "bin" / "python"))
    if not Path(named).exists():
        sys.exit(f"{named}: no such interpreter; run make bench-env, or name one in PALATE_TRL_PYTHON")
    return named


def run_child(
    python: str,
    script: str,
    job: Job,
    folder: Path,
    environment: dict[str, str] | None = None,
    timeout: float | None = None,
) -> Report:
    """Run `script` of this folder on a job in a process of its own, and return what it reports.

    Args:
        python: the interpreter.
        script: file name of a child here; it reads a job file and writes a report file.
        job: plain values; `do` names the task.
        folder: where job and report files go.
        environment: variables that are changed for the child.
        timeout: seconds after which the child is ended.

    Returns:
        The child's report, with `wall_seconds` of the whole process added.
    """
    number = len(list(folder.glob("job-*.json")))
    job_file, report_file = folder / f"job-{number}.json", folder / f"report-{number}.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    begin = time.monotonic()
    try:
        done = subprocess.run(
            [python, str(HERE / script), str(job_file), str(report_file)],
            env={**os.environ, **offline, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"{script}: {job['do']} took longer than {timeout:.0f} s")
    wall = time.monotonic() - begin
    if done.returncode or not report_file.exists():
        lines = done.stderr.strip().splitlines()
        if lines and (said := re.match(r"palate\.errors\.\w+: (.*)", lines[-1])):
            sys.exit(f"{script}: {said[1]}")
        tail = "\n".join(lines[-15:])
        sys.exit(f"{script} failed at {job['do']} with exit code {done.returncode}:\n{tail}")
    report: Report = json.loads(report_file.read_text(encoding="utf-8"))
    return {**report, "wall_seconds": wall}


def child_job() -> tuple[Job, Path]:
    """In a child: the job, and the file that the report is to be written to."""
    job_file, report_file = map(Path, sys.argv[1:3])
    return json.loads(job_file.read_text(encoding="utf-8")), report_file


def peak_bytes() -> int:
    """Most memory that this process has held resident.

    The kernel's own high-water mark of the address space: unlike getrusage's it does not begin with what the parent
    process held when it forked.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of repeated measurements."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def machine() -> dict[str, Any]:
    """What the figures depend on; no host name."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "python": platform.python_version(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _precision(name: str) -> str:
    if name not in ("bf16", "fp32"):
        raise argparse.ArgumentTypeError(f"{name} is neither bf16 nor fp32")
    if name == "bf16" and not native_formats():
        raise argparse.ArgumentTypeError(
            "this processor has no bf16 products (avx512_bf16 or amx_bf16) and would emulate them for hours; use fp32"
        )
    return name


def _cpu_name() -> str:
    lines = _cpu_facts()
    if not lines:
        return platform.processor() or platform.machine()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return " ".join([name, *native_formats()])


def native_formats() -> list[str]:
    """Instructions that multiply bf16, of those that PyTorch uses."""
    flags = next((line.partition(":")[2].split() for line in _cpu_facts() if line.startswith("flags")), [])
    return [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]


def _cpu_facts() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def precision_option(parser: argparse.ArgumentParser) -> None:
    """Of both sides; emulated bf16 would measure the emulation."""
    default = "bf16" if native_formats() else "fp32"
    parser.add_argument(
        "--precision",
        type=_precision,
        metavar="{bf16,fp32}",
        default=default,
        help=f"absent: bf16 where the processor multiplies it, else fp32; here {default}",
    )


def located(result: Report) -> Report:
    """The result with the command, the machine and the FLOP/s of its products in front of its figures."""
    facts = machine()
    try:
        with tempfile.TemporaryDirectory(prefix="palate-bench-") as folder:
            report = run_child(palate_python(), "_products.py", {"do": "products"}, Path(folder))
        facts["products"] = report["products"]
    except SystemExit as failed:
        # Hours of measurement are not lost for one figure beside them.
        say(f"how fast the machine multiplies is missing: {failed}")
    return {"command": command_line(), "machine": facts, **result}


def write_result(name: str, result: Report, folder: Path = RESULTS) -> Path:
    """Write `folder/name.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def positive(text: str) -> int:
    """An option's whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def above_zero(text: str) -> float:
    """An option's number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def command_line() -> str:
    """How this script was called, from the root of the checkout; where the result went is left out."""
    given = sys.argv[1:]
    if "--results" in given:
        place = given.index("--results")
        given = given[:place] + given[place + 2 :]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])


def say(line: str) -> None:
    """Progress goes to stderr; stdout has the table."""
    print(line, file=sys.stderr, flush=True)


def model_and_source(parser: argparse.ArgumentParser) -> None:
    """Which model, and whose texts."""
    parser.add_argument("--model", default="smollm2-135m-instruct", help="built-in name or folder")
    # As text, so that argparse checks the default too.
    parser.add_argument("--source", type=_file, default=str(PREFERENCES), help="file of pairs whose texts are used")


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{name} is not there; name a file of pairs that palate reads")
    return path


def results_option(parser: argparse.ArgumentParser) -> None:
    """Where the JSON goes."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON result")
