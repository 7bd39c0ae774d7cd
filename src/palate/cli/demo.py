"""`palate demo`: the whole main job on a small real model and a comparison set that ships with palate, offline."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json, say, show_answers

Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FOLDER", help="Run directory; an existing demo is replaced."),
]
Steps = Annotated[int, typer.Option("--steps", min=2, help="Optimiser steps of 8 pairs each.")]

CONFIG: dict[str, Any] = {
    "stage": "dpo",
    "model_name_or_path": "smollm2-135m-instruct",
    "dataset": "palate-demo",
    "eval_dataset": "palate-demo-heldout",
    # The last layers only: what lies below them is computed once. The SFT term keeps answers fluent at this pace.
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
    """Teach a small model plain, honest answers from comparisons, and show what changed on topics it was not taught."""
    from palate.config.load import config_from_values

    config = config_from_values(
        {**CONFIG, "max_steps": steps, "output_dir": str(output)}, origin="the demo's config"
    ).config
    begin = time.monotonic()
    say("palate demo: SmolLM2-135M-Instruct learns from comparisons; held out are topics that it is not taught")

    from palate.evaluation.demo import measure
    from palate.evaluation.subject import read_run
    from palate.report.pages.run import write_run_report
    from palate.training.run import train

    train(config)
    gc.collect()  # the optimiser's memory, before the next models are loaded
    accuracy, rows = measure(read_run(output), say=say)
    report = write_run_report(output)
    seconds = time.monotonic() - begin
    if as_json:
        result_json({"accuracy": accuracy.to_json(), "report": str(report), "seconds": round(seconds, 1)})
        return
    show_answers(rows)
    result("\n".join([*accuracy.lines(), f"report: {report}   ({seconds:.0f} s; the model is in {output})"]))
