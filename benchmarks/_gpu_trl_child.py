"""TRL's side of the GPU benchmark: the rows, order and model of palate's runs, in TRL's own environment."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import torch
from _gpu_model import StepClock, free, peak_bytes, random_model
from _measure import Job, Report, child_job
from _trl_child import GivenOrder, Trainer, _adapter, _arguments, _dataset, _versions
from transformers import AutoTokenizer

WARM_UP = 2


def main() -> None:
    job, report_file = child_job()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    end = time.monotonic() + job["seconds"]
    found = []
    for run in job["runs"]:
        if time.monotonic() >= end:
            found.append({"name": run["name"], "error": "no time left"})
            continue
        try:
            found.append({"name": run["name"], **train_once(job, run, device)})
        # The other runs of the benchmark are worth having without this one.
        except Exception as error:
            found.append({"name": run["name"], "error": f"{type(error).__name__}: {str(error)[:300]}"})
        free(device)
    report_file.write_text(json.dumps({"runs": found, "versions": _versions()}), encoding="utf-8")


def train_once(job: Job, run: Job, device: torch.device) -> Report:
    # Weights that train are float32 on both sides; frozen ones are bf16.
    dtype = torch.bfloat16 if run["lora_rank"] and device.type == "cuda" else torch.float32
    model = random_model(job["size"], device, dtype)
    if run["last_layers"]:
        first = model.config.num_hidden_layers - run["last_layers"]
        for name, parameter in model.named_parameters():
            layer = name.split(".")[2] if ".layers." in name else ""
            parameter.requires_grad_(name == "model.norm.weight" or (layer.isdigit() and int(layer) >= first))
    clock = StepClock(device)
    rows: Any = run["rows"]
    trainer = Trainer(
        GivenOrder([list(range(len(rows)))]),
        model=model,
        # TRL would load it by the model's name, and this one has none.
        ref_model=None if run["lora_rank"] else random_model(job["size"], device, dtype),
        args=_arguments(run),
        train_dataset=_dataset(rows),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=_adapter(run),
    )
    trainer.add_callback(clock)
    trainer.train()
    step = statistics.median(clock.seconds[WARM_UP:])
    tokens = sum(len(row["prompt"]) + sum(map(len, row["completions"])) for row in rows) / len(rows)
    logged = [entry for entry in trainer.state.log_history if "logps/chosen" in entry]
    return {
        "pairs_per_second": run["batch"] / step,
        "tokens_per_second": tokens * run["batch"] / step,
        "peak_bytes": peak_bytes(device),
        "step_seconds": clock.seconds,
        "losses": trainer.losses,
        "logps": [entry["logps/chosen"] for entry in logged],
    }


if __name__ == "__main__":
    main()
