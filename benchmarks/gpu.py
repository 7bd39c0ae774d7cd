"""palate and TRL in turn on one GPU: equality of all forms of attention, speed, memory. `make gpu`; at most 8 minutes.

    python benchmarks/gpu.py                 on a machine with CUDA
    python benchmarks/gpu.py --dry-run       on a CPU: every line but the kernels, on tiny shapes

It needs neither network nor weights: models of 1B and 8B are random and made on the device. It works with the versions
that are installed and records them. TRL is taken from `$PALATE_TRL_PYTHON`, `.trl-venv`, or palate's own environment;
without it, its columns say so. The exit code is 1 where a form of attention differs, or a run of palate failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _measure import (
    REPOSITORY,
    Job,
    Report,
    above_zero,
    command_line,
    machine,
    palate_python,
    results_option,
    run_child,
    say,
    write_result,
)
from tables import gpu_table

ATTENTION_SHARE = 0.25
LORA_RANK = 16
# Size, tuning, pairs of a step. In this order, so that what matters most is measured first.
RUNS = [("8B", "lora", 4), ("1B", "full", 8), ("1B", "lora", 8), ("1B", "last", 8)]
DRY_RUNS = [("dry", "full", 2), ("dry", "lora", 2), ("dry", "last", 2)]
LAST_LAYERS = {"1B": 5, "8B": 5, "dry": 1}
# Tokens of the prompt and of each answer: P = C, and P = 3C.
LENGTHS = [(512, 512), (768, 256)]
DRY_LENGTHS = [(16, 16), (24, 8)]
STEPS = 6


def main() -> int:
    parser = argparse.ArgumentParser(description="Attention, speed and memory on a GPU, beside TRL.")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes; runs on a CPU")
    parser.add_argument("--minutes", type=above_zero, default=8.0, help="time for all of it; 8 by default")
    parser.add_argument(
        "--cases", choices=["some", "all", "one"], help="of attention; all takes minutes with FlexAttention"
    )
    results_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="palate-gpu-") as folder:
        result = measure(options, Path(folder))
    if not options.dry_run:
        say(f"written: {write_result('gpu', result, options.results)}")
    print(gpu_table([result]))
    failed = [row for row in result["attention"] if not row["equal"]]
    for row in failed:
        say(f"attention differs: {row}")
    broken = [
        run["palate"]["error"] for run in result["runs"] if run["palate"].get("error", "no time left") != "no time left"
    ]
    for error in broken:
        say(f"palate failed: {error}")
    return 1 if failed or broken else 0


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Everything, within the time that is given."""
    end = time.monotonic() + 60 * options.minutes

    def left() -> float:
        return end - time.monotonic()

    def child(python: str, script: str, job: Job) -> Report:
        return run_child(python, script, job, folder, {"PALATE_REFERENCES": str(folder / "references")}, max(left(), 1))

    facts = child(palate_python(), "_gpu_child.py", {"do": "facts", "side": 256 if options.dry_run else 8192})
    say(f"{facts.get('name', facts['device'])}, {facts['peak_flops'] / 1e12:.1f} TFLOP/s; {versions(facts)}")
    if facts["device"] != "cuda" and not options.dry_run:
        sys.exit("there is no CUDA device; --dry-run exercises the benchmark on a CPU")
    cases = options.cases or ("one" if options.dry_run else "some")
    job = {"do": "attention", "cases": cases, "seconds": ATTENTION_SHARE * left()}
    equal = child(palate_python(), "_gpu_child.py", job)
    say(f"attention: {sum(row['equal'] for row in equal['rows'])} of {len(equal['rows'])} comparisons are equal")
    return {
        "benchmark": "gpu",
        "command": command_line(),
        "machine": machine(),
        "dry_run": options.dry_run,
        **facts,
        "attention": equal["rows"],
        **compare(options, facts, child, left, folder),
    }


def compare(
    options: argparse.Namespace, facts: Report, child: Callable[..., Report], left: Callable[[], float], folder: Path
) -> Report:
    """Both sides in turn, for each size and length."""
    trl, runs, trl_versions = trl_or_none(), [], None
    plan = DRY_RUNS if options.dry_run else RUNS
    lengths = DRY_LENGTHS if options.dry_run else LENGTHS
    sizes = list(dict.fromkeys(size for size, *_ in plan))
    for size in sizes:
        files = [{"prompt": p, "answer": c, "pairs": str(folder / f"{size}-{p}.jsonl")} for p, c in lengths]
        most = STEPS * max(batch for one, _, batch in plan if one == size)
        model = str(folder / size)
        child(
            palate_python(),
            "_gpu_child.py",
            {"do": "make", "model": model, "size": size, "lengths": files, "pairs": most},
        )
        for number, file in enumerate(files):
            tunings = [(tuning, batch) for one, tuning, batch in plan if one == size]
            # What is left, shared by the comparisons that follow, two sides each.
            share = left() / (2 * (len(files) - number + len(files) * (len(sizes) - 1 - sizes.index(size))))
            job = {
                "do": "train",
                "size": size,
                "model": model,
                "seconds": share,
                "runs": [palate_run(facts, size, model, file, *one, folder) for one in tunings],
            }
            ours = side(child, palate_python(), "_gpu_child.py", job)
            theirs: list[Report] = [{"error": "not installed"}] * len(tunings)
            if trl:
                theirs_job = {
                    **job,
                    "runs": [trl_run(facts, size, *one, mine, folder) for one, mine in zip(tunings, ours)],
                }
                # Runs that palate did not get to have no rows.
                theirs_job["runs"] = [one for one in theirs_job["runs"] if one["rows"]]
                theirs = side(child, trl, "_gpu_trl_child.py", theirs_job, runs=len(tunings))
            for (tuning, batch), mine, other in zip(tunings, ours, theirs):
                mine.pop("rows", None)
                named = {
                    "size": size,
                    "tuning": tuning,
                    "batch": batch,
                    "prompt": file["prompt"],
                    "answer": file["answer"],
                }
                runs.append({**named, "palate": mine, "trl": other})
                say(f"{size} {tuning}, {file['prompt']} + {file['answer']}: {short(mine)}; TRL {short(other)}")
            trl_versions = trl_versions or next((one["versions"] for one in theirs if "versions" in one), None)
    return {"runs": runs, "trl_versions": trl_versions}


def side(child: Callable[..., Report], python: str, script: str, job: Job, runs: int | None = None) -> list[Report]:
    """The reports of one side's runs; a child that fails as a whole fails for each of them."""
    try:
        report = child(python, script, job)
    except SystemExit as failed:
        return [{"error": str(failed)[:300]}] * (runs or len(job["runs"]))
    found: list[Report] = [
        {**run, **({"versions": report["versions"]} if "versions" in report else {})} for run in report["runs"]
    ]
    return found + [{"error": "no time left"}] * ((runs or len(found)) - len(found))


def palate_run(
    facts: Report,
    size: str,
    model: str,
    file: Report,
    tuning: str,
    batch: int,
    folder: Path,
) -> Report:
    """The run as a user would write it."""
    tunings: dict[str, dict[str, Any]] = {
        "full": {"finetuning_type": "full"},
        "lora": {"finetuning_type": "lora", "lora_rank": LORA_RANK, "lora_alpha": 2 * LORA_RANK},
        "last": {"finetuning_type": "freeze", "freeze_trainable_layers": LAST_LAYERS[size]},
    }
    return {
        "name": tuning,
        "config": {
            "stage": "dpo",
            "model_name_or_path": model,
            "dataset": file["pairs"],
            "cutoff_len": file["prompt"] + file["answer"],
            "precision": "bf16" if facts["device"] == "cuda" else "fp32",
            "per_device_train_batch_size": batch,
            "max_steps": STEPS,
            "learning_rate": 1e-6,
            "optim": "adamw_torch_fused",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "sample_prompts": 0,
            "health": "off",
            "output_dir": str(folder / f"palate-{size}-{tuning}-{file['prompt']}"),
            **tunings[tuning],
        },
    }


def trl_run(facts: Report, size: str, tuning: str, batch: int, mine: Report, folder: Path) -> Report:
    """The same run for TRL, on the rows that palate trained on."""
    return {
        "name": tuning,
        "folder": str(folder / f"trl-{size}-{tuning}"),
        "rows": mine.get("rows", []),
        "lora_rank": LORA_RANK if tuning == "lora" else 0,
        "last_layers": LAST_LAYERS[size] if tuning == "last" else 0,
        "use_cpu": facts["device"] != "cuda",
        "precision": "bf16" if facts["device"] == "cuda" else "fp32",
        "cutoff_len": 1 << 14,
        "batch": batch,
        "epochs": 1,
        "learning_rate": 1e-6,
        "beta": 0.1,
        "seed": 42,
    }


def trl_or_none() -> str | None:
    """The interpreter of an environment with TRL."""
    named = os.environ.get("PALATE_TRL_PYTHON", str(REPOSITORY / ".trl-venv" / "bin" / "python"))
    if Path(named).exists():
        return named
    return palate_python() if importlib.util.find_spec("trl") else None


def versions(facts: Report) -> str:
    return ", ".join(f"{name} {version}" for name, version in facts["versions"].items())


def short(run: Report) -> str:
    return run.get("error") or f"{run['pairs_per_second']:.2f} pairs/s, {run['peak_bytes'] / 1e9:.1f} GB"


if __name__ == "__main__":
    sys.exit(main())
