"""`palate plan`'s estimate beside measured runs on this machine: peak memory and time of a step.

    python benchmarks/capacity.py                 full, LoRA, last layers; two lengths; with and without checkpointing
    python benchmarks/capacity.py --modes lora --lengths 256
    python benchmarks/capacity.py --computed docs/plan.md     writes that page's table of computed figures, runs nothing

Every run is a real training in a process of its own. The estimate sees the config, config.json and the lengths of the
rows only, and the rates of the machine that `palate plan --hardware this` measures. Memory is reliable beside other
work, time is not: the seconds of the processor, which grow less beside it, are in the result too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from _measure import (
    Report,
    located,
    model_and_source,
    palate_python,
    positive,
    precision_option,
    results_option,
    run_child,
    say,
    write_result,
)
from tables import capacity_table, fill, markdown

from palate.capacity.estimate import estimate
from palate.capacity.hardware import HARDWARE
from palate.capacity.job import Job, RowTokens, Workload
from palate.capacity.shapes import SIZES, read_shape
from palate.config.load import config_from_values
from palate.training.setup.speed import this_machine

MODES: dict[str, dict[str, Any]] = {
    "full": {"finetuning_type": "full"},
    "lora": {"finetuning_type": "lora", "lora_rank": 16},
    "last": {"finetuning_type": "freeze", "freeze_trainable_layers": 5},
}

# The computed table: DPO on pairs of 512 + 2 · 256 tokens.
COMPUTED_ON, COMPUTED_PAIRS = "H100", 60_000
COMPUTED: dict[str, dict[str, Any]] = {
    "full": {"finetuning_type": "full", "fsdp": "full_shard auto_wrap"},
    "LoRA": {"finetuning_type": "lora", "lora_rank": 16, "fsdp": "full_shard auto_wrap"},
    "QLoRA": {"finetuning_type": "lora", "lora_rank": 16, "quantization_bit": 4},
}


def main() -> int:
    parser = argparse.ArgumentParser(description="The capacity estimate beside measured runs.")
    precision_option(parser)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--lengths", nargs="+", type=positive, default=[128, 512], help="tokens of prompt + answer")
    parser.add_argument("--steps", type=positive, default=3)
    parser.add_argument("--batch", type=positive, default=4, help="pairs of a step")
    parser.add_argument("--computed", type=Path, metavar="PAGE", help="write the computed table into this page")
    model_and_source(parser)
    results_option(parser)
    options = parser.parse_args()
    if options.computed is not None:
        page = options.computed.read_text(encoding="utf-8")
        options.computed.write_text(fill(page, {"computed": computed_table()}), encoding="utf-8")
        return 0
    settings = {name: getattr(options, name) for name in ("steps", "batch")}
    result = located({"benchmark": "capacity", "precision": options.precision, "settings": settings, "rows": []})
    lengths = "-".join(map(str, options.lengths))
    with tempfile.TemporaryDirectory(prefix="palate-bench-") as folder:
        for row in measure(options, Path(folder)):
            result["rows"].append(row)
            # After each run, so that an interrupted measurement is not lost.
            path = write_result(f"capacity-{lengths}-{options.precision}", result, options.results)
    print(capacity_table([result]))
    say(f"written: {path}")
    return 0


def computed_table() -> str:
    """What `palate plan` computes for models of three sizes, three kinds of tuning and three numbers of devices."""
    header = ["model", "tuning", "devices", "GB of a device", "most in", "fits", "s of a step", "pairs/s", "hours"]
    work = Workload(COMPUTED_PAIRS, [RowTokens(512, (256, 256))], "as given")
    rows = []
    for size, (tuning, values), devices in product(("1b", "8b", "70b"), COMPUTED.items(), (1, 4, 8)):
        config = {
            "stage": "dpo",
            "model_name_or_path": size,
            "dataset": "pairs.jsonl",
            "output_dir": "run",
            "per_device_train_batch_size": 8,
            "gradient_checkpointing": True,
            "sample_prompts": 0,
            **values,
        }
        job = Job(config_from_values(config).config, SIZES[size], work, HARDWARE[COMPUTED_ON.lower()], devices)
        found = estimate(job)
        speed = 8 * devices / found.duration.of_step
        cells = [f"{found.duration.of_step:.2f}", f"{speed:.1f}", f"{found.duration.of_run / 3600:.2f}"]
        fits = found.memory.fits
        moment = max(found.memory.moments, key=found.memory.moments.__getitem__)
        memory = [f"{found.memory.peak / 1e9:.1f}", moment, "yes" if fits else "no"]
        rows.append([job.shape.name, tuning, devices, *memory, *(cells if fits else "–––")])
    return markdown(header, rows)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Report]:
    """Every combination, estimated and run."""
    hardware = this_machine()
    for length in options.lengths:
        job = {"model": options.model, "source": str(options.source), "rows": options.steps * options.batch}
        pairs = folder / f"{length}.jsonl"
        made = run_child(
            palate_python(),
            "_palate_child.py",
            {"do": "make_rows", **job, "length": length, "completions": 2, "pairs": str(pairs)},
            folder,
        )
        for mode, checkpointing in product(options.modes, (False, True)):
            config = {
                "stage": "dpo",
                "pref_loss": "plackett_luce",  # of two answers: DPO's loss, on rows in the form of rankings
                "model_name_or_path": made["model"],
                "dataset": str(pairs),
                "output_dir": str(folder / f"{mode}-{length}-{checkpointing}"),
                "cutoff_len": length,
                "precision": options.precision,
                "per_device_train_batch_size": options.batch,
                "gradient_checkpointing": checkpointing,
                "save_strategy": "no",
                "report_to": "none",
                "sample_prompts": 0,
                "health": "off",
                **MODES[mode],
            }
            work = Workload(job["rows"], [RowTokens(length // 2, (length - length // 2,) * 2)], "of the benchmark")
            shape = read_shape(made["model"])
            expected = estimate(Job(config_from_values(config).config, shape, work, hardware))
            store = {"PALATE_REFERENCES": str(folder / f"references-{mode}-{length}-{checkpointing}")}
            found = run_child(palate_python(), "_palate_child.py", {"do": "train", "config": config}, folder, store)
            steps = len(found["steps"])
            row = {
                "mode": mode,
                "length": length,
                "hardware": {"tflops": hardware.tflops, "bandwidth": hardware.bandwidth},
                "checkpointing": checkpointing,
                "predicted_bytes": expected.memory.peak,
                "measured_bytes": found["peak_bytes"],
                "parts": dict(expected.memory.parts),
                "moments": dict(expected.memory.moments),
                "predicted_step_seconds": expected.duration.of_step,
                "measured_step_seconds": found["timings"]["train"] / steps,
                "cpu_step_seconds": found["train_cpu_seconds"] / steps / found["threads"],
                "tokens_per_row": found["tokens_per_group"],
                "memory": found["memory"],
            }
            say(
                f"{mode}, {length} tokens{', checkpointing' if checkpointing else ''}: memory "
                f"{row['predicted_bytes'] / 1e9:.2f} predicted, {row['measured_bytes'] / 1e9:.2f} GB measured; step "
                f"{row['predicted_step_seconds']:.2f} predicted, {row['measured_step_seconds']:.2f} s measured, "
                f"{row['cpu_step_seconds']:.2f} CPU s per core"
            )
            yield row


if __name__ == "__main__":
    sys.exit(main())
