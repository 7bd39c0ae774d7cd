"""`palate demo`: train, evaluate and report with a small real model and a dataset that ship with palate, offline."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import print_answers, print_json, print_progress, print_result

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Run directory; an existing demo is replaced.")
]
Steps = Annotated[int, typer.Option("--steps", min=2, help="Optimiser steps of 8 pairs each.")]

CONFIG: dict[str, Any] = {
    "stage": "dpo",
    "model_name_or_path": "smollm2-135m-instruct",
    "dataset": "palate-demo",
    "eval_dataset": "palate-demo-heldout",
    # Only the last layers are trained, so the others run once. The SFT term keeps answers fluent at this learning rate.
    "finetuning_type": "freeze",
    "freeze_trainable_layers": 12,
    "pref_beta": 0.1,
    "pref_ftx": 1.0,
    "learning_rate": 1e-4,
    "warmup_ratio": 0.05,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "cutoff_len": 512,
    "max_tokens_per_batch": 1024,
    "logging_steps": 15,
    "save_strategy": "no",
    "sample_prompts": 0,
    "overwrite_output_dir": True,
}


def command(output: Output = Path("runs/demo"), steps: Steps = 75, as_json: AsJson = False) -> None:
    """Train a small model with DPO in a few minutes, offline; show its answers to held-out topics before and after.

    Example: palate demo --output runs/demo
    """
    from palate.config.load import config_from_values

    config = config_from_values(
        {**CONFIG, "max_steps": steps, "output_dir": str(output)}, origin="the demo's config"
    ).config
    begin = time.monotonic()
    print_progress("palate demo: DPO of SmolLM2-135M-Instruct; the pairs it is evaluated on are about other topics")

    from palate.evaluation.demo import measure
    from palate.evaluation.subject import read_run
    from palate.report.pages.run import write_run_report
    from palate.training.run import train

    train(config)
    gc.collect()  # the optimiser's memory, before the next models are loaded
    accuracy, rows = measure(read_run(output), say=print_progress)
    report = write_run_report(output)
    seconds = time.monotonic() - begin
    if as_json:
        print_json({"accuracy": accuracy.to_json(), "report": str(report), "seconds": round(seconds, 1)})
        return
    print_answers(rows)
    print_result("\n".join([*accuracy.lines(), f"report: {report}   ({seconds:.0f} s; the model is in {output})"]))
