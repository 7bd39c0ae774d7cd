"""`palate demo`: train, evaluate and report with a small real model and a dataset that ship with palate, offline."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from palate.cli.arguments import check_installed
from palate.cli.columns import text_width, two_columns
from palate.cli.console import print_answers, print_json, print_progress, print_result, wants_json

Output = Annotated[
    Path | None,
    Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="An existing demo there is replaced. Default: runs/demo, with --loop runs/loop-demo.",
    ),
]
Steps = Annotated[int, Option("--steps", min=2, help="Optimiser steps of 8 pairs each.")]

_CONFIG = {
    "model_name_or_path": "smollm2-135m-instruct",
    "dataset": "palate-demo",
    "eval_dataset": "palate-demo-heldout",
    "per_device_eval_batch_size": 32,
    "overwrite_output_dir": True,
}


def command(
    output: Output = None,
    steps: Steps = 75,
    loop: Annotated[
        bool, Option("--loop", help="A whole cycle: serve, collect, train, gate, deploy, roll back.")
    ] = False,
) -> None:
    """Train a small model with DPO in a few minutes, offline; show its answers to held-out topics before and after.

    Example: palate demo --output runs/demo
    """
    if loop:
        _circle(output or Path("runs/loop-demo"), steps)
    else:
        _train(output or Path("runs/demo"), steps)


def _train(output: Path, steps: int) -> None:
    begin = time.monotonic()
    print_progress("palate demo: DPO of SmolLM2-135M-Instruct; the pairs it is evaluated on are about other topics")

    from palate.config.load import config_from_values
    from palate.evaluation.demo import measure
    from palate.evaluation.subject import read_run
    from palate.loop.demo.circle import TRAINING
    from palate.report.pages.run import write_run_report
    from palate.training.run import train

    values = {**TRAINING, **_CONFIG, "max_steps": steps, "output_dir": str(output)}
    train(config_from_values(values, origin="the demo's config").config)
    gc.collect()  # the optimiser's memory, before the next models are loaded
    accuracy, rows = measure(read_run(output), on_progress=print_progress)
    report = write_run_report(output)
    seconds = time.monotonic() - begin
    if wants_json():
        print_json({"accuracy": accuracy.to_json(), "report": str(report), "seconds": round(seconds, 1)})
        return
    print_answers(rows)
    print_result("\n".join([*accuracy.lines(), f"report: {report}   ({seconds:.0f} s; the model is in {output})"]))


def _circle(output: Path, steps: int) -> None:
    check_installed("serve")
    from palate.loop.demo.circle import run_circle

    print_progress("palate demo --loop: v1.0 is served, people correct it, v1.1 learns from that; all in one folder")
    found = run_circle(output, steps=steps, on_progress=print_progress)
    if wants_json():
        print_json(found)
        return
    for question, answers in list(found.asked.items())[:6]:
        rows = [("question", question), *((version, " ".join(text.split())) for version, text in answers.items())]
        print_result(two_columns(rows, width=text_width() or 80, indent=0) + "\n")
    said = found.talk
    named, primary = found.verdict["versions"], found.verdict["checks"][0]
    facts = [
        ("people said", f"{said.edits} corrections, {said.choices} choices, {said.up} thumbs up, {said.down} down"),
        ("win rate", primary["reason"] if primary["found"] is None else _rate(primary)),
        ("verdict", f"{found.verdict['outcome']}: {named['candidate']} in place of {named['incumbent']}"),
        ("cycle", found.outcome),
        ("answered by", " → ".join(found.answering)),
        ("learnt from", found.learnt_from or "nothing was deployed"),
        ("look at it", f"palate web --store sqlite:///{output / 'palate.db'} --runs {output / 'cycles'}"),
        ("seconds", f"{found.seconds:.0f}"),
    ]
    print_result(two_columns(facts, width=text_width() or 80, indent=0))


def _rate(check: Mapping[str, Any]) -> str:
    return f"{100 * check['found']:.1f} %, at least {100 * check['low']:.1f} % (length-controlled)"
